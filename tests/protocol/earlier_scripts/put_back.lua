-- put_back: return jobs that were taken and not begun to the front of their queues, in their old order.
-- in front: clock, types, prefixes, lease
--
-- KEYS[1] R:worker:<worker>:executions
-- ARGV[1] P   ARGV[2] R   ARGV[3] worker
-- ARGV[4…] per job, in the order in which they were taken: queue, job, execution
--
-- Returns the number of jobs put back. A job whose lease is lost is somebody else's now and stays as it is.
-- Not an attempt: it is taken off the count again.

local worker = ARGV[3]
expect(KEYS[1], 'set')

local held = {}
for i = 4, #ARGV, 3 do
  local queue, job, execution = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  expect(R .. ':queue:' .. queue, 'list'); expect(R .. ':job:' .. job, 'hash')
  if has_lease(queue, job, execution) then held[#held + 1] = {queue, job, execution} end
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
