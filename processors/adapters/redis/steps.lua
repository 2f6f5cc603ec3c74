-- The steps of a unit of work, part of commit.lua and acquire.lua.
--
-- Redis runs a script alone, but takes nothing back when a command in it fails: a key that another program has made
-- something else of, a command that its user may not call. Each single command happens or does not. So a unit that
-- fails between two of them is kept in the field `pending` with its place, and the next owner completes it from there.
-- A Redis that dies in a script has not written it anywhere: its append-only file and its replicas get all or nothing.

local MOST = 4000 -- arguments that unpack() can pass on at once: Lua's C stack takes 8,000; even, for pairs
local BEFORE_SECONDS = 1800 -- three times what a copy may take, so that nothing expires that it relies on

-- While somebody copies the partition (copy.lua), what a step is about to write over is kept beside it, the first time:
-- fields of a hash with their values, members of a list of due persons; an empty string is what was not there.
local WHERE = { HSET = { 0, 2, 'HGET' }, HDEL = { 0, 1, 'HGET' }, ZADD = { 1, 2, 'ZSCORE' }, ZREM = { 0, 1, 'ZSCORE' } }

local function keep_before(copy, key, command, args, from, upto)
  local first, each, read = unpack(WHERE[command])
  local before = key .. ':before:' .. copy
  for n = from + first, upto, each do
    redis.call('HSETNX', before, args[n], redis.call(read, key, args[n]) or '')
  end
  redis.call('EXPIRE', before, BEFORE_SECONDS)
end

-- KEYS and ARGV are those of commit.lua; `place` is where to begin, and where it has come to.
local function carry_out(keys, args, place)
  local copying = keys[1] .. ':copy'
  local copy = redis.call('HGET', copying, 'id')
  while place.step <= #keys do
    local last = place.at + 1 + tonumber(args[place.at + 1])
    while place.from <= last do
      local upto = math.min(place.from + MOST - 1, last)
      if copy and keys[place.step] ~= keys[2] and keys[place.step] ~= keys[3] then
        keep_before(copy, keys[place.step], args[place.at], args, place.from, upto)
      end
      redis.call(args[place.at], keys[place.step], unpack(args, place.from, upto))
      place.from, place.written = upto + 1, true
    end
    place.step, place.at, place.from = place.step + 1, last + 1, last + 3
  end

  -- Hours whose lists have become empty leave the index: lists are struck from at its front only.
  local first = redis.call('ZRANGE', keys[2], 0, 0)[1]
  while first and redis.call('EXISTS', keys[2] .. ':' .. first) == 0 do
    redis.call('ZREM', keys[2], first)
    place.written = true
    first = redis.call('ZRANGE', keys[2], 0, 0)[1]
  end
  redis.call('HSET', keys[1], 'offset', args[4], 'cursor', args[5], 'state', args[6])
  if copy then
    redis.call('HSET', copying, 'offset', args[4], 'cursor', args[5])
  end
end

-- Returns nothing, or the error with which it failed.
local function carry_out_or_keep(keys, args, place)
  local done, failure = pcall(carry_out, keys, args, place)
  if done then
    return nil
  end
  if place.written then
    redis.call('HSET', keys[1], 'pending', cmsgpack.pack({ keys = keys, args = args, place = place }))
  end
  return { err = type(failure) == 'table' and failure.err or failure }
end
