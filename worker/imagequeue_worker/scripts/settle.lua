-- settle: publish images for a job that runs under a stock `rq worker`, which holds RQ's lease and not ours.
-- in front: clock, types, all_or_nothing, gate, rows
--
-- KEYS[1] P:pending:<collection>
-- ARGV[1…4] as the gate wants them   ARGV[5] queue   ARGV[6] job   ARGV[7] collection
-- ARGV[8…] per image: id, status, text, dead
--
-- Returns one '1' (published) or '0' (not owned) per image, in one string. No fence: ownership alone decides, so a job
-- that RQ runs twice still gives each image one result.

local FIRST_IMAGE = 8
return publish_rows(gate_of(ARGV[7]), ARGV[5], ARGV[6], FIRST_IMAGE)
