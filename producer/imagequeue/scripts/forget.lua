-- forget: remove results whose reader has them elsewhere, and the completion entries before them.
-- in front: types
--
-- KEYS[1] P:results:<collection>   KEYS[2] P:completed:<collection>
-- ARGV[1] the entry up to which the reader has read   ARGV[2…] per image: id, and the entry of the result that was read
--
-- Returns how many results went: those that still are the ones that were read. Like results that have expired, they
-- stay counted. The entry in ARGV[1] itself stays, so that whoever reads on from it sees that nothing is missing behind.

expect(KEYS[1], 'hash'); expect(KEYS[2], 'stream')
local ids, gone = {}, {}
for i = 2, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
if #ids > 0 then
  -- Quotes inside a result's texts are escaped, so the stamp is found nowhere else.
  for i, text in ipairs(redis.call('HMGET', KEYS[1], unpack(ids))) do
    if text and string.find(text, '"entry":"' .. ARGV[2 * i + 1] .. '"', 1, true) then gone[#gone + 1] = ids[i] end
  end
end
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[1])
if #gone > 0 then redis.call('HDEL', KEYS[1], unpack(gone)) end
return #gone
