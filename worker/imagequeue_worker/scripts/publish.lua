-- publish: publish some images of one leased job, which goes on with the others.
-- in front: clock, types, all_or_nothing, gate, lease
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
local gate, ids = gate_of(ARGV[8]), {}
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
