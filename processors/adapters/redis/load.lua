-- Reads fields of several hashes: one answer instead of one a hash.
-- KEYS: the partition, then the hashes.
-- ARGV: an owner's token and position (offset, cursor), an empty token for readers that own nothing; then for each hash
--       the number of its fields, and the fields. Returns lists of values, in that order, or refuses with FENCED.

local MOST = 4000 -- as in steps.lua
if ARGV[1] ~= '' then
  local refused = not_held(KEYS[1], ARGV[1], ARGV[2], ARGV[3])
  if refused then
    return refused
  end
end
local found, at = {}, 4
for n = 2, #KEYS do
  local last = at + tonumber(ARGV[at])
  for from = at + 1, last, MOST do
    found[#found + 1] = redis.call('HMGET', KEYS[n], unpack(ARGV, from, math.min(from + MOST - 1, last)))
  end
  at = last + 1
end
return found
