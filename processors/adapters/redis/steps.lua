-- The steps of a unit of work, part of commit.lua and acquire.lua.
--
-- Redis runs a script alone, but takes nothing back when a command in it fails: a key that another program has made
-- something else of, a command that its user may not call. Each single command happens or does not. So a unit that
-- fails between two of them is kept in the field `pending` with its place, and the next owner completes it from there.
-- A Redis that dies in a script has not written it anywhere: its append-only file and its replicas get all or nothing.

local MOST = 4000 -- arguments that unpack() can pass on at once: Lua's C stack takes 8,000; even, for pairs

-- KEYS and ARGV are those of commit.lua; `place` is where to begin, and where it has come to.
local function carry_out(keys, args, place)
  while place.step <= #keys do
    local last = place.at + 1 + tonumber(args[place.at + 1])
    while place.from <= last do
      local upto = math.min(place.from + MOST - 1, last)
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
