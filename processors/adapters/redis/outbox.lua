-- Reads the outbox from its beginning: the number of its first output, and the outputs.
-- A script, as a full Redis refuses transactions, and it is by publishing that there comes to be room.
-- KEYS: 1 the partition, 2 its outbox. ARGV: 1 how many at most.

local base = redis.call('HGET', KEYS[1], 'base')
return { tonumber(base) or 0, redis.call('LRANGE', KEYS[2], 0, ARGV[1] - 1) }
