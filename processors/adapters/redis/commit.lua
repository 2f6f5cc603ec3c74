-- Commits one unit of work, or refuses it with FENCED before anything is changed.
--
-- KEYS: 1 the partition, 2 its index of due hours, 3 its outbox, from 4 on the key of each step.
-- ARGV: 1 token, 2 and 3 the position where it has to be (offset, cursor), 4 and 5 the position after, 6 the state,
--       then for each step: the command, the number of its arguments, the arguments.

local held = redis.call('HMGET', KEYS[1], 'token', 'offset', 'cursor', 'base', 'pending')
if held[1] ~= ARGV[1] then
  return redis.error_reply('FENCED another owner has acquired ' .. KEYS[1])
end
if held[5] then
  return redis.error_reply('FENCED a commit to ' .. KEYS[1] .. ' was cut short; acquiring it anew completes it')
end
local offset, cursor = held[2] or '0', held[3] or '0'
if offset ~= ARGV[2] or cursor ~= ARGV[3] then
  local found = offset .. ', ' .. cursor
  return redis.error_reply('FENCED ' .. KEYS[1] .. ' is at ' .. found .. ', not at ' .. ARGV[2] .. ', ' .. ARGV[3])
end

local failure = carry_out_or_keep(KEYS, ARGV, { step = 4, at = 7, from = 9 })
if failure then
  return failure
end
return (tonumber(held[4]) or 0) + redis.call('LLEN', KEYS[3]) - 1
