-- Reads hashes or due lists of a partition that is being copied: each as it is, and what of it was kept as it was before.
-- KEYS: 1 the partition, from 2 on what to read. ARGV: 1 the copy's id, 2 the command that reads, then its arguments.
--
-- Refuses where something may have been written without being kept: the mark of the copy has expired, was lost with a
-- Redis's last second, is another copy's, or a program that keeps nothing has committed since.

local mark = redis.call('HMGET', KEYS[1] .. ':copy', 'id', 'offset', 'cursor')
if mark[1] ~= ARGV[1] then
  local why = mark[1] and 'another copy was begun' or 'it took too long, or Redis was restored to an earlier moment'
  return redis.error_reply('COPYLOST ' .. KEYS[1] .. ' can no longer be copied as it was: ' .. why)
end
local held = redis.call('HMGET', KEYS[1], 'offset', 'cursor')
if (held[1] or '0') ~= mark[2] or (held[2] or '0') ~= mark[3] then
  return redis.error_reply('COPYLOST a worker of an older version commits to ' .. KEYS[1] .. ': bring all to this one')
end

local found = {}
for n = 2, #KEYS do
  found[#found + 1] = redis.call(ARGV[2], KEYS[n], unpack(ARGV, 3))
  found[#found + 1] = redis.call('HGETALL', KEYS[n] .. ':before:' .. ARGV[1])
end
return found
