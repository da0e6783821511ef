-- drop: remove a finished collection whole: results, completions, counters, dead letters.
-- in front: types
--
-- KEYS[1] P:pending:<collection>   KEYS[2] P:results:<collection>   KEYS[3] P:completed:<collection>
-- KEYS[4] P:totals:<collection>    KEYS[5] P:dead:<collection>      KEYS[6] P:collections
-- ARGV[1] collection
--
-- Returns {images that are pending, results removed}. While images are pending nothing is removed: they are accepted,
-- and each will get its result. Freed in the background, so a large collection does not hold Redis up.

local pending, results, collections = KEYS[1], KEYS[2], KEYS[6]
expect(pending, 'hash'); expect(results, 'hash'); expect(collections, 'set')
local waiting = redis.call('HLEN', pending)
if waiting > 0 then return {waiting, 0} end
local removed = redis.call('HLEN', results)
redis.call('UNLINK', results, KEYS[3], KEYS[4], KEYS[5])
redis.call('SREM', collections, ARGV[1])
return {0, removed}
