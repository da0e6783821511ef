-- resubmit: accept one chunk of images as one RQ job, those that have a result too: they run afresh.
-- in front: clock, types, all_or_nothing, accept
--
-- KEYS[1…8] as accept wants them   KEYS[9] P:dead:<collection>   KEYS[10…] P:blob:<sha256>, as submit has them
-- ARGV[1…14] as accept wants them; the results are written here   ARGV[15…] image ids, in the order of the request
--
-- Returns what submit returns. Known, and left alone, is only what is pending.
--
-- A resubmission is a new acceptance: the old result and its dead letter go, the counters and the completion entry of
-- the old run stay.

local ids, dead, blobs = {unpack(ARGV, 15)}, KEYS[9], {unpack(KEYS, 10)}
expect(dead, 'hash')

if job_field('accepted') then return answer_for(ids, job_field('ids')) end

local missing = missing_blob(blobs)
if missing then return missing end

local is_pending = redis.call('HMGET', pending, unpack(ids))
local new = {}
for i, id in ipairs(ids) do
  if not is_pending[i] then new[#new + 1] = id end
end
return accept(ids, new, blobs, dead)
