-- sweep: remove what has aged, for a few collections a call.
-- in front: clock, types, all_or_nothing, gate
--
-- KEYS[1] P:collections   KEYS[2] P:rates
-- ARGV[1…4] as the gate wants them   ARGV[5] SSCAN cursor, '0' to begin   ARGV[6] entries per collection and call
--
-- Returns {next cursor, '0' when all collections have been seen; results removed}.
-- Where hash fields expire by themselves the streams are trimmed. Elsewhere, and where a result was written before the
-- server could do so, it goes with its completion entry, and only if that entry is its own: an image that was resubmitted
-- has a younger one.

local RATE_SECONDS = 3600 -- a worker that was not heard of for so long is gone
local collections, rates, limit = KEYS[1], KEYS[2], ARGV[6]
local oldest = string.format('%d', math.max(0, milliseconds - RESULT_MS))
expect(collections, 'set')

local function expires_by_itself(gate, id)
  return FIELDS_EXPIRE and redis.call('HTTL', gate.results, 'FIELDS', 1, id)[1] ~= -1
end

local function remove_aged(gate)
  local entries, aged = redis.call('XRANGE', gate.completed, '-', oldest, 'COUNT', limit), {}
  local removed = 0
  for number, entry in ipairs(entries) do
    aged[number] = entry[1]
    local id
    for i = 1, #entry[2], 2 do
      if entry[2][i] == 'id' then id = entry[2][i + 1] end
    end
    local result = id and redis.call('HGET', gate.results, id)
    local own = result and string.find(result, '"entry":"' .. entry[1] .. '"', 1, true)
    if own and not expires_by_itself(gate, id) then
      redis.call('HDEL', gate.dead, id)
      removed = removed + redis.call('HDEL', gate.results, id)
    end
  end
  if #aged > 0 then redis.call('XDEL', gate.completed, unpack(aged)) end
  return removed
end

local scan = redis.call('SSCAN', collections, ARGV[5], 'COUNT', 20)
local removed = 0
for _, collection in ipairs(scan[2]) do
  local gate = gate_unless_damaged(collection)
  if gate then
    local by_hand = remove_aged(gate)
    removed = removed + by_hand
    -- What needs a hand is older than what does not: where nothing did, nothing further on does.
    if FIELDS_EXPIRE and by_hand == 0 then redis.call('XTRIM', gate.completed, 'MINID', oldest) end
  end
  if gate and redis.call('HLEN', gate.pending) == 0 and redis.call('HLEN', gate.results) == 0 then
    redis.call('SREM', collections, collection)
  end
end

-- Rates of workers long gone; the newest stays, so that scaling from zero has one to go by.
local newest, newest_at, old = nil, 0, {}
local all = is_whole(rates, 'hash') and redis.call('HGETALL', rates) or {}
for i = 1, #all, 2 do
  local at = tonumber(string.match(all[i + 1], ' (%S+)$')) or 0
  if at > newest_at then newest, newest_at = all[i], at end
  if seconds - at > RATE_SECONDS then old[#old + 1] = all[i] end
end
for _, worker in ipairs(old) do
  if worker ~= newest then redis.call('HDEL', rates, worker) end
end
return {scan[1], removed}
