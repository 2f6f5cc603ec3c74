-- Forgets outputs up to a number, or refuses with FENCED.
-- KEYS: 1 the partition, 2 its outbox. ARGV: 1 token, 2 the last number to forget.

local held = redis.call('HMGET', KEYS[1], 'token', 'base')
if held[1] ~= ARGV[1] then
  return redis.error_reply('FENCED another owner has acquired ' .. KEYS[1])
end
local base = tonumber(held[2]) or 0
local many = math.min(tonumber(ARGV[2]) - base + 1, redis.call('LLEN', KEYS[2]))
if many > 0 then
  redis.call('LTRIM', KEYS[2], many, -1)
  redis.call('HSET', KEYS[1], 'base', string.format('%d', base + many))
end
return many
