-- Puts keys that were written beside a partition in its place, under a new owner's token: who owned it is fenced.
-- KEYS: 1 the partition, 2 its index of due hours, then as many others as ARGV 6 says, its outbox and hashes: all these
-- are forgotten, and every due list; then pairs: a key that was written, and the name it gets.
-- ARGV: 1 token, 2 and 3 the position, 4 number of the outbox's first output, 5 the state (empty: none), 6 see KEYS.

local last = 2 + tonumber(ARGV[6])

-- What could fail comes first, so that then nothing has changed: a key that has expired, a command that is not allowed.
for n = last + 1, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[n]) == 0 then
    return redis.error_reply('ERR what was to replace ' .. KEYS[1] .. ' has expired by now; restore it once more')
  end
  redis.call('RENAME', KEYS[n], KEYS[n])
end
redis.call('PERSIST', KEYS[1])
redis.call('UNLINK', KEYS[1] .. ':copy')

for _, hour in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  redis.call('UNLINK', KEYS[2] .. ':' .. hour)
end
for n = 1, last do
  redis.call('UNLINK', KEYS[n])
end
for n = last + 1, #KEYS, 2 do
  redis.call('RENAME', KEYS[n], KEYS[n + 1])
  redis.call('PERSIST', KEYS[n + 1])
end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'offset', ARGV[2], 'cursor', ARGV[3], 'base', ARGV[4])
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[1], 'state', ARGV[5])
end
