-- submit: accept one chunk of images as one RQ job, whole or not at all.
-- in front: clock, types
--
-- KEYS[1] P:pending:<collection>    KEYS[2] P:totals:<collection>   KEYS[3] P:waiting   KEYS[4] P:collections
-- KEYS[5] R:queues                  KEYS[6] R:queue:<queue>         KEYS[7] R:job:<job> KEYS[8] R:results:<job>
-- KEYS[9…] P:blob:<sha256>, the uploaded bytes that the chunk refers to
-- ARGV[1] P:results:<collection>    read only; not in KEYS, since a producer's role may not write it
-- ARGV[2] queue   ARGV[3] job   ARGV[4] collection   ARGV[5] model, or ''   ARGV[6] depth limit in images
-- ARGV[7] seconds until the images expire, or ''     ARGV[8] seconds that a blob must live on
-- ARGV[9] RQ timeout   ARGV[10] RQ result_ttl   ARGV[11] RQ failure_ttl   ARGV[12] retries_left
-- ARGV[13] description   ARGV[14] data   ARGV[15…] image ids, in the order of the request
--
-- Returns {'accepted', one '1' (accepted) or '0' (known) per id, in one string}
--      or {'full', images waiting}, or {'blob_missing', key}; then nothing was written.
--
-- The gate's other half: here images enter pending, and only here and in resubmit. A call that is resent after a lost
-- reply finds its job and gets the same answer: the job hash lists the ids it was accepted for.

local pending, totals, waiting, collections = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local queues, list, hash, job_results = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local results, queue, job = ARGV[1], ARGV[2], ARGV[3]
local owner = queue .. '|' .. job
local FIRST_ID, FIRST_BLOB = 15, 9
local ids = {unpack(ARGV, FIRST_ID)}

-- The ids that this very job was accepted for, each between newlines; nil for a job that is new. A hash whose images
-- are in neither place is what an error half way left behind: not accepted.
local function accepted_before()
  if redis.call('TYPE', hash).ok ~= 'hash' then return nil end
  local accepted = redis.call('HGET', hash, 'ids')
  local first = accepted and string.match(accepted, '[^\n]+')
  if not first then return nil end
  local owned = redis.call('HGET', pending, first) == owner or redis.call('HEXISTS', results, first) == 1
  return owned and '\n' .. accepted .. '\n' or nil
end

expect(pending, 'hash'); expect(totals, 'hash'); expect(waiting, 'hash'); expect(results, 'hash')
expect(collections, 'set'); expect(queues, 'set'); expect(list, 'list')

-- Resent: the same answer again.
local before = accepted_before()
if before then
  local answer = {}
  for i, id in ipairs(ids) do answer[i] = string.find(before, '\n' .. id .. '\n', 1, true) and '1' or '0' end
  return {'accepted', table.concat(answer)}
end

local blobs = {unpack(KEYS, FIRST_BLOB)}
for _, blob in ipairs(blobs) do
  if redis.call('EXISTS', blob) == 0 then return {'blob_missing', blob} end
end

local is_pending = redis.call('HMGET', pending, unpack(ids))
local has_result = redis.call('HMGET', results, unpack(ids))
local answer, new = {}, {}
for i, id in ipairs(ids) do
  local known = is_pending[i] or has_result[i]
  answer[i] = known and '0' or '1'
  if not known then new[#new + 1] = id end
end
if #new == 0 then return {'accepted', table.concat(answer)} end

local depth = tonumber(redis.call('HGET', waiting, queue) or '0')
-- Any chunk fits an empty queue, also one that is larger than the limit.
if depth > 0 and depth + #new > tonumber(ARGV[6]) then return {'full', depth} end

-- First a write that a full server refuses: after any other (DEL, PEXPIRE) it lets the rest of a script pass its
-- maxmemory.
redis.call('SADD', queues, list)

local blob_ms = tonumber(ARGV[8]) * 1000
for _, blob in ipairs(blobs) do
  local left = redis.call('PTTL', blob)
  if left >= 0 and left < blob_ms then redis.call('PEXPIRE', blob, blob_ms) end
end

local fields = {
  'status', 'queued', 'origin', queue, 'created_at', iso, 'enqueued_at', iso, 'description', ARGV[13],
  'timeout', ARGV[9], 'result_ttl', ARGV[10], 'failure_ttl', ARGV[11], 'retries_left', ARGV[12],
  'collection', ARGV[4], 'model', ARGV[5], 'images', #new, 'ids', table.concat(new, '\n'),
  'submitted_at', stamp, 'queued_at', stamp, 'attempts', 0, 'losses', 0, 'data', ARGV[14],
}
if ARGV[7] ~= '' then
  fields[#fields + 1] = 'expires_at'
  fields[#fields + 1] = string.format('%.6f', seconds + tonumber(ARGV[7]))
end
redis.call('DEL', hash, job_results)
redis.call('HSET', hash, unpack(fields))
redis.call('SADD', collections, ARGV[4])
redis.call('HINCRBY', waiting, queue, #new)
local owners = {}
for i, id in ipairs(new) do
  owners[2 * i - 1] = id
  owners[2 * i] = owner
end
redis.call('HINCRBY', totals, 'accepted', #new)
redis.call('HSET', pending, unpack(owners))
redis.call('RPUSH', list, job)
return {'accepted', table.concat(answer)}
