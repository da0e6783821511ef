-- publish: publish some images of one leased job, which goes on with the others.
-- in front: clock, types, all_or_nothing, gate, lease, rows
--
-- KEYS[1] R:wip:<queue>
-- ARGV[1…4] as the gate wants them   ARGV[5] queue   ARGV[6] job   ARGV[7] execution   ARGV[8] collection
-- ARGV[9…] per image: id, status, text, dead
--
-- Returns one '1' (published) or '0' (not owned any more) per image, in one string; '' when the lease is lost: then
-- nothing was written, and the answer must be dropped.

local queue, job, execution = ARGV[5], ARGV[6], ARGV[7]
local FIRST_IMAGE = 9

expect(wip_key(queue), 'zset')
if not has_lease(queue, job, execution) then return '' end
return publish_rows(gate_of(ARGV[8]), queue, job, FIRST_IMAGE)
