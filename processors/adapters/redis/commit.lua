-- Commits one unit of work, or refuses it with FENCED before anything is changed.
--
-- Redis runs a script alone but takes nothing back when a command in it fails. So the order is part of the promise:
-- the caller lists the steps (outbox, due lists to add to, persons and links, due lists to strike from), the position
-- comes last. docs/redis.md says what a unit that ended between two steps looks like, and why it can be folded again.
--
-- KEYS: 1 the partition, 2 its index of due hours, 3 its outbox, from 4 on the key of each step.
-- ARGV: 1 token, 2 and 3 the position where it has to be (offset, cursor), 4 and 5 the position after, 6 the state,
--       then for each step: the command, the number of its arguments, the arguments.

local held = redis.call('HMGET', KEYS[1], 'token', 'offset', 'cursor', 'base')
if held[1] ~= ARGV[1] then
  return redis.error_reply('FENCED another owner has acquired ' .. KEYS[1])
end
local offset, cursor = held[2] or '0', held[3] or '0'
if offset ~= ARGV[2] or cursor ~= ARGV[3] then
  local found = offset .. ', ' .. cursor
  return redis.error_reply('FENCED ' .. KEYS[1] .. ' is at ' .. found .. ', not at ' .. ARGV[2] .. ', ' .. ARGV[3])
end

local MOST = 4000 -- arguments that unpack() can pass on at once: Lua's C stack takes 8,000; even, for pairs
local at = 7
for step = 4, #KEYS do
  local last = at + 1 + tonumber(ARGV[at + 1])
  for from = at + 2, last, MOST do
    redis.call(ARGV[at], KEYS[step], unpack(ARGV, from, math.min(from + MOST - 1, last)))
  end
  at = last + 1
end

-- Hours whose lists have become empty leave the index: lists are struck from at its front only.
local first = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
while first and redis.call('EXISTS', KEYS[2] .. ':' .. first) == 0 do
  redis.call('ZREM', KEYS[2], first)
  first = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
end

redis.call('HSET', KEYS[1], 'offset', ARGV[4], 'cursor', ARGV[5], 'state', ARGV[6])
return (tonumber(held[4]) or 0) + redis.call('LLEN', KEYS[3]) - 1
