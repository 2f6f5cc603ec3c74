-- Begins to copy a partition: from now on every commit keeps what it writes over (steps.lua) beside it, under the
-- copy's id. Returns what the copy is of, and the hours that have a due list.
-- KEYS: 1 the partition, 2 its index of due hours, 3 its outbox. ARGV: 1 the copy's id, 2 the seconds that it may take.
-- Whoever dies while copying leaves keys that expire; a copy that another one follows finds its id gone.

local held = redis.call('HMGET', KEYS[1], 'offset', 'cursor', 'base', 'state', 'pending')
if held[5] then
  return redis.error_reply('COPYLOST a commit to ' .. KEYS[1] .. ' was cut short; its next owner completes it')
end
local offset, cursor = held[1] or '0', held[2] or '0'
local copying, outbox = KEYS[1] .. ':copy', KEYS[3] .. ':before:' .. ARGV[1]
redis.call('UNLINK', copying)
redis.call('HSET', copying, 'id', ARGV[1], 'offset', offset, 'cursor', cursor)
redis.call('EXPIRE', copying, ARGV[2])
if redis.call('COPY', KEYS[3], outbox) == 1 then
  redis.call('EXPIRE', outbox, ARGV[2])
end
return { offset, cursor, tonumber(held[3]) or 0, held[4], redis.call('ZRANGE', KEYS[2], 0, -1) }
