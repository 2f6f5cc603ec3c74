-- Ends a copy of a partition, and forgets what was kept for it; of the due lists that expires by itself.
-- KEYS: 1 the partition, from 2 on what was read. ARGV: 1 the copy's id.

local copying = KEYS[1] .. ':copy'
if redis.call('HGET', copying, 'id') == ARGV[1] then
  redis.call('UNLINK', copying)
end
for n = 2, #KEYS do
  redis.call('UNLINK', KEYS[n] .. ':before:' .. ARGV[1])
end
