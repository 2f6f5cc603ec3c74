-- Commits one unit of work, or refuses it with FENCED before anything is changed.
--
-- KEYS: 1 the partition, 2 its index of due hours, 3 its outbox, from 4 on the key of each step.
-- ARGV: 1 token, 2 and 3 the position where it has to be (offset, cursor), 4 and 5 the position after, 6 the state,
--       then for each step: the command, the number of its arguments, the arguments.

local refused = not_held(KEYS[1], ARGV[1], ARGV[2], ARGV[3])
if refused then
  return refused
end

local failure = carry_out_or_keep(KEYS, ARGV, { step = 4, at = 7, from = 9 })
if failure then
  return failure
end
return (tonumber(redis.call('HGET', KEYS[1], 'base')) or 0) + redis.call('LLEN', KEYS[3]) - 1
