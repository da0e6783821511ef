-- settle: publish images for a job that runs under a stock `rq worker`, which holds RQ's lease and not ours.
-- in front: clock, types, gate
--
-- KEYS[1] P:pending:<collection>
-- ARGV[1…4] as the gate wants them   ARGV[5] queue   ARGV[6] job   ARGV[7] collection
-- ARGV[8…] per image: id, status, text, dead
--
-- Returns one '1' (published) or '0' (not owned) per image, in one string. No fence: ownership alone decides, so a job
-- that RQ runs twice still gives each image one result.

local queue, job = ARGV[5], ARGV[6]
local FIRST_IMAGE = 8
local gate = gate_of(ARGV[7])
local ids = {}
for i = FIRST_IMAGE, #ARGV, 4 do ids[#ids + 1] = ARGV[i] end
local mine = owned(gate, ids, queue .. '|' .. job)
local images, reply = {}, {}
for i = FIRST_IMAGE, #ARGV, 4 do
  local id = ARGV[i]
  reply[#reply + 1] = mine[id] and '1' or '0'
  if mine[id] then
    images[#images + 1] = {id = id, status = ARGV[i + 1], text = ARGV[i + 2], dead = ARGV[i + 3]}
    mine[id] = nil
  end
end
work_when_full(P)
publish(gate, queue, job, images)
return table.concat(reply)
