-- discard: forget dead letters; their images keep the error as result, and can no longer be requeued.
-- in front: types, letters
--
-- KEYS[1] P:results:<collection>   KEYS[2] P:dead:<collection>
-- ARGV[1…] per image: id, and the entry of the result that was read
--
-- Returns how many letters went: those that still belong to that very result.

expect(KEYS[1], 'hash'); expect(KEYS[2], 'hash')
local ids = unchanged(KEYS[1], KEYS[2], 1)
if #ids > 0 then redis.call('HDEL', KEYS[2], unpack(ids)) end
return #ids
