-- Reads fields of several hashes: one answer instead of one a hash.
-- KEYS: the hashes. ARGV: for each the number of its fields, then the fields. Returns lists of values, in that order.

local MOST = 4000 -- as in commit.lua
local found, at = {}, 1
for _, key in ipairs(KEYS) do
  local last = at + tonumber(ARGV[at])
  for from = at + 1, last, MOST do
    found[#found + 1] = redis.call('HMGET', key, unpack(ARGV, from, math.min(from + MOST - 1, last)))
  end
  at = last + 1
end
return found
