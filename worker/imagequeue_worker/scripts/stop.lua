-- stop: end a leased job because an operator says so (RQ's stop-job): its images end as `cancelled`.
-- in front: clock, types, all_or_nothing, gate, verdict, lease
--
-- KEYS[1] R:job:<job>
-- ARGV[1…4] as the gate wants them   ARGV[5] queue   ARGV[6] job   ARGV[7] execution   ARGV[8] worker
--
-- Returns the number of images that were cancelled, or -1 when the lease is lost: the job has ended, or is somebody
-- else's. Whoever is classifying the job meets the fence when it is done.

local hash = KEYS[1]
local queue, id, execution, worker = ARGV[5], ARGV[6], ARGV[7], ARGV[8]

expect(wip_key(queue), 'zset'); expect(hash, 'hash'); expect(R .. ':results:' .. id, 'stream')
expect(R .. ':failed:' .. queue, 'zset'); expect(R .. ':worker:' .. worker .. ':executions', 'set')
if not has_lease(queue, id, execution) then return -1 end
local values = redis.call('HMGET', hash, 'collection', 'ids', 'data', 'attempts', 'submitted_at', 'failure_ttl')
local job = {attempts = values[4], submitted_at = values[5], failure_ttl = values[6]}
local gate = gate_unless_damaged(values[1] or '')
local known, ids, cancelled = images_of(values[3]), {}, {}
for image in string.gmatch(values[2] or '', '[^\n]+') do ids[#ids + 1] = image end
local mine = gate and owned(gate, ids, queue .. '|' .. id) or {}
for _, image in ipairs(ids) do
  if mine[image] then
    local text = failure_text(image, known[image], 'cancelled', 'its job was stopped', job)
    cancelled[#cancelled + 1] = {id = image, status = 'error', text = text, dead = ''}
    mine[image] = nil -- an id that is listed twice is one image
  end
end

work_when_full(P)
if gate then publish(gate, queue, id, cancelled) end
-- zlib text in base64, as RQ reads it: "stopped".
close(queue, id, execution, worker, 'failed', 'eJwrLskvKEhNAQAMTQMA', stamp, job)
if redis.call('EXISTS', hash) == 1 then
  redis.call('HSET', hash, 'status', 'stopped')
  redis.call('HDEL', hash, 'finished_by') -- its worker is to be told that its answer was dropped
end
forget(queue, id, execution, worker)
register()
release()
return #cancelled
