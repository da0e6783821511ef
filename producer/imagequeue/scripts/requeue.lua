-- requeue: accept dead letters again, as one RQ job: errors whose requests were kept.
-- in front: clock, types, all_or_nothing, accept, letters
--
-- KEYS[1…8] as accept wants them   KEYS[9] P:dead:<collection>   KEYS[10…] P:blob:<sha256>, as submit has them
-- ARGV[1…14] as accept wants them; the results are written here
-- ARGV[15…] per image, in the order of the request: id, and the entry of the result that was read
--
-- Returns what submit returns. Accepted are those whose dead letter still belongs to that very result; what was
-- requeued, resubmitted or discarded meanwhile stays as it is.

local FIRST_LETTER = 15
local dead, blobs, ids = KEYS[9], {unpack(KEYS, 10)}, {}
for i = FIRST_LETTER, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
expect(dead, 'hash')

if job_field('accepted') then return answer_for(ids, job_field('ids')) end

local missing = missing_blob(blobs)
if missing then return missing end

local new = unchanged(results, dead, FIRST_LETTER)
return accept(ids, new, blobs, dead)
