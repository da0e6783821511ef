-- submit: accept one chunk of images as one RQ job, whole or not at all.
-- in front: clock, types, all_or_nothing, accept
--
-- KEYS[1…8] as accept wants them   KEYS[9…] P:blob:<sha256>, the uploaded bytes that the chunk refers to
-- ARGV[1…14] as accept wants them  ARGV[15…] image ids, in the order of the request
--
-- Returns {'accepted', one '1' (accepted) or '0' (known) per id, in one string}
--      or {'full', images waiting}, or {'blob_missing', key}; then nothing was written.
--
-- The gate's other half: here images enter pending, and only here, in resubmit and in requeue. A call that is resent
-- after a lost reply finds its job and gets the same answer: the job hash lists the ids it was accepted for.

local ids, blobs = {unpack(ARGV, 15)}, {unpack(KEYS, 9)}

-- Sent again? A hash whose images are in neither place is what an error half way left behind: not accepted.
local accepted = job_field('ids')
local first = accepted and string.match(accepted, '[^\n]+')
if first and (redis.call('HGET', pending, first) == owner or redis.call('HEXISTS', results, first) == 1) then
  return answer_for(ids, accepted)
end

local missing = missing_blob(blobs)
if missing then return missing end

local is_pending = redis.call('HMGET', pending, unpack(ids))
local has_result = redis.call('HMGET', results, unpack(ids))
local new = {}
for i, id in ipairs(ids) do
  if not (is_pending[i] or has_result[i]) then new[#new + 1] = id end
end
return accept(ids, new, blobs)
