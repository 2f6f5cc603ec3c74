-- Returns what is listed up to an hour, in the order of hours and of the keys' bytes: hour, keys, hour, keys, ...
-- KEYS: 1 the index of due hours; the lists are beside it, in the same slot. ARGV: 1 the hour, 2 how many at most.

local found, left = {}, tonumber(ARGV[2])
for _, hour in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, left)) do
  local keys = redis.call('ZRANGE', KEYS[1] .. ':' .. hour, 0, left - 1)
  found[#found + 1] = tonumber(hour)
  found[#found + 1] = keys
  left = left - #keys
  if left <= 0 then
    break
  end
end
return found
