-- retry: give images of one leased job another try later, each in a job of its own.
-- in front: clock, types, all_or_nothing, gate, lease
--
-- KEYS[1] R:scheduled:<queue>   KEYS[2] R:job:<job>
-- ARGV[1…4] as the gate wants them   ARGV[5] queue   ARGV[6] job   ARGV[7] execution   ARGV[8] collection
-- ARGV[9] how many tries more an image may have in all   ARGV[10] the longest pause, in milliseconds
-- ARGV[11…] per image: id, new job, milliseconds of the first pause, data of the new job, the error (JSON)
--
-- Returns one '1' (moved) or '0' per image, in one string. '0': it has had its tries, or its time would be up before the
-- next one, or it is not this job's any more, or the lease is lost. The caller publishes the error then, and the gate
-- has the last word on it.
--
-- Pauses double with each try. What the new job inherits: the attempts and losses so far (a suspect stays one), when
-- the image was submitted and when it expires. A call that is sent again after a lost reply gets the same answer.

local scheduled, hash = KEYS[1], KEYS[2]
local queue, job, execution, collection = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local retries_max, pause_max_ms = tonumber(ARGV[9]), tonumber(ARGV[10])
local owner = queue .. '|' .. job
local FIRST_IMAGE, CELLS = 11, 5

expect(wip_key(queue), 'zset'); expect(scheduled, 'zset'); expect(hash, 'hash')
local held = has_lease(queue, job, execution)
local images, ids = {}, {}
for i = FIRST_IMAGE, #ARGV, CELLS do
  ids[#ids + 1] = ARGV[i]
  images[#images + 1] = {
    id = ARGV[i], job = ARGV[i + 1], pause_ms = tonumber(ARGV[i + 2]), data = ARGV[i + 3], error = ARGV[i + 4],
  }
end
if not held then return string.rep('0', #images) end

local gate = gate_of(collection)
local owners = redis.call('HMGET', gate.pending, unpack(ids))
local old = redis.call('HMGET', hash, 'retries', 'attempts', 'losses', 'submitted_at', 'expires_at', 'model', 'timeout',
  'result_ttl', 'failure_ttl', 'retries_left')
local retries, expires_at = count_of(old[1]), tonumber(old[5])

local function fields_of(image)
  local fields = {
    'status', 'scheduled', 'origin', queue, 'created_at', iso, 'enqueued_at', iso,
    'description', 'classify 1 image of ' .. collection .. ', retry ' .. retries + 1,
    'collection', collection, 'model', old[6] or '', 'images', 1, 'ids', image.id,
    'submitted_at', old[4] or stamp, 'queued_at', stamp, 'attempts', count_of(old[2]), 'losses', count_of(old[3]),
    'retries', retries + 1, 'last_error', image.error, 'data', image.data,
  }
  local function inherit(name, value)
    if value then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  inherit('expires_at', old[5]); inherit('timeout', old[7]); inherit('result_ttl', old[8])
  inherit('failure_ttl', old[9]); inherit('retries_left', old[10])
  return fields
end

work_when_full(P)
local reply = {}
for i, image in ipairs(images) do
  local due = seconds + math.min(image.pause_ms * 2 ^ math.min(retries, 30), pause_max_ms) / 1000
  local moved = owners[i] == queue .. '|' .. image.job
  if owners[i] == owner and retries < retries_max and not (expires_at and expires_at <= due) then
    retry(gate, queue, image.id, image.job, fields_of(image), due)
    moved = true
  end
  reply[i] = moved and '1' or '0'
end
return table.concat(reply)
