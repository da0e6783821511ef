-- recount: set P:waiting right where it does not say what is pending.
-- in front: types, prefixes
--
-- KEYS[1] P:collections   KEYS[2] P:waiting
-- ARGV[1] P   ARGV[2] R   ARGV[3] images up to which every count is looked at, and not their sum alone
--
-- Returns the number of counts that were wrong. Counting is one read of every owner, so in a large backlog it is done
-- only when the sum of the counts shows that it is needed. Everything in P:waiting can be derived, so it is made anew
-- where it is damaged: no other script works then.

local waiting, few = KEYS[2], tonumber(ARGV[3])
expect(KEYS[1], 'set')

local function pending_key(collection) return P .. ':pending:' .. collection end

local function is_hash(key) return redis.call('TYPE', key).ok == 'hash' end

local collections, pending = {}, 0
for _, collection in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if is_hash(pending_key(collection)) then
    collections[#collections + 1] = collection
    pending = pending + redis.call('HLEN', pending_key(collection))
  end
end

local whole, counts, sum = is_hash(waiting) or redis.call('EXISTS', waiting) == 0, {}, 0
local all = whole and redis.call('HGETALL', waiting) or {}
for i = 1, #all, 2 do
  local number = string.match(all[i + 1], '^-?%d+$') and tonumber(all[i + 1])
  if number then counts[all[i]], sum = number, sum + number else whole = false end
end
if whole and pending > few and sum == pending then return 0 end

local right = {}
for _, collection in ipairs(collections) do
  for _, owner in ipairs(redis.call('HVALS', pending_key(collection))) do
    local queue = string.match(owner, '^([^|]+)|') or ''
    right[queue] = (right[queue] or 0) + 1
  end
end
local wrong = 0
if not whole then
  redis.call('DEL', waiting)
  counts, wrong = {}, 1
end
for queue, number in pairs(right) do
  if counts[queue] ~= number then
    redis.call('HSET', waiting, queue, number)
    wrong = wrong + 1
  end
end
for queue, number in pairs(counts) do
  if not right[queue] and number ~= 0 then
    redis.call('HSET', waiting, queue, 0)
    wrong = wrong + 1
  end
end
return wrong
