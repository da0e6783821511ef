-- letters: which dead letters are still those that the caller has read. Put in front of requeue and discard.

-- Of the pairs id, entry in ARGV from `first` on: the ids that have a dead letter, and whose result is the one of that
-- completion entry. Quotes inside a result's texts are escaped, so the stamp is found nowhere else.
local function unchanged(results, dead, first)
  local ids, found = {}, {}
  for i = first, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
  if #ids == 0 then return found end
  local texts = redis.call('HMGET', results, unpack(ids))
  for i, id in ipairs(ids) do
    local stamped = '"entry":"' .. ARGV[first + 2 * i - 1] .. '"'
    if texts[i] and string.find(texts[i], stamped, 1, true) and redis.call('HEXISTS', dead, id) == 1 then
      found[#found + 1] = id
    end
  end
  return found
end
