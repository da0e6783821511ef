-- put_back: return jobs that were taken and not begun to the front of their queues, in their old order.
-- in front: clock, types, prefixes, lease
--
-- KEYS[1] R:worker:<worker>:executions
-- ARGV[1] P   ARGV[2] R   ARGV[3] worker
-- ARGV[4…] per job, in the order in which they were taken: queue, job, execution
--
-- Returns the number of jobs put back. A job whose lease is lost is somebody else's now and stays as it is; so does one
-- whose keys are damaged, until its lease has ended.
-- Not an attempt: it is taken off the count again.

local worker = ARGV[3]
local held = {}
for i = 4, #ARGV, 3 do
  local queue, job, execution = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local whole = queue_is_whole(queue) and is_whole(R .. ':job:' .. job, 'hash')
  if whole and has_lease(queue, job, execution) then held[#held + 1] = {queue, job, execution} end
end

work_when_full(P)
for i = #held, 1, -1 do
  local queue, job, execution = unpack(held[i])
  redis.call('HSET', R .. ':job:' .. job, 'status', 'queued', 'worker_name', '', 'started_at', '')
  redis.call('HINCRBY', R .. ':job:' .. job, 'attempts', -1)
  redis.call('LPUSH', R .. ':queue:' .. queue, job)
  forget(queue, job, execution, worker)
end
release()
return #held
