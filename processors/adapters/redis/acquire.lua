-- Gives a partition a new owner, after completing a commit that was cut short, and returns the partition's state.
-- KEYS: 1 the partition. ARGV: 1 the new owner's token.

local pending = redis.call('HGET', KEYS[1], 'pending')
if pending then
  local unit = cmsgpack.unpack(pending)
  local failure = carry_out_or_keep(unit.keys, unit.args, unit.place)
  if failure then
    return failure
  end
  redis.call('HDEL', KEYS[1], 'pending')
end
redis.call('HSET', KEYS[1], 'token', ARGV[1])
return redis.call('HGET', KEYS[1], 'state')
