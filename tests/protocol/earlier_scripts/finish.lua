-- finish: publish the images of leased jobs, and close the jobs in RQ.
-- in front: clock, types, gate, lease
--
-- KEYS[1] R:worker:<worker>
-- ARGV[1…4] as the gate wants them   ARGV[5] worker
-- ARGV[6…] per job: queue, job, execution, collection, 'finished' or 'failed', RQ's answer (base64), taken_at,
--          '1' if its dependents have been queued, number of images, then per image: id, status, text, dead
--
-- Returns per job, in order, a string: a digit, then per image '1' (published) or '0' (not owned any more).
--   '0' lease lost: nothing written, drop the answer     '1' finished
--   '2' already finished by this execution: an answer of ours was lost on its way
--   '3' its images are published, but it has dependents: queue them, then finish it again
--
-- Fence before gate: the lease guards jobs, ownership guards images. The lease is given up last, so that an error half
-- way leaves the job where it was.

local worker_hash, worker = KEYS[1], ARGV[5]
local cursor = 6

local function next_arguments(count)
  local from = cursor
  cursor = cursor + count
  return unpack(ARGV, from, cursor - 1)
end

local jobs = {}
while cursor <= #ARGV do
  local job = {images = {}, ids = {}, mine = {}}
  job.queue, job.id, job.execution, job.collection, job.status, job.answer, job.taken_at, job.dependents_queued,
    job.count = next_arguments(9)
  for i = 1, job.count do
    local image = {}
    image.id, image.status, image.text, image.dead = next_arguments(4)
    job.images[i], job.ids[i] = image, image.id
  end
  jobs[#jobs + 1] = job
end

-- Read: whatever is of the wrong type must be met before the first write.
local dependents = {}
for _, job in ipairs(jobs) do
  local hash = R .. ':job:' .. job.id
  expect(wip_key(job.queue), 'zset'); expect(R .. ':results:' .. job.id, 'stream')
  expect(R .. ':finished:' .. job.queue, 'zset'); expect(R .. ':failed:' .. job.queue, 'zset')
  local fields = redis.call('HMGET', hash, 'result_ttl', 'failure_ttl', 'finished_by')
  job.result_ttl, job.failure_ttl = fields[1], fields[2]
  job.done_before = fields[3] == job.execution
  job.leased = has_lease(job.queue, job.id, job.execution)
  dependents[#dependents + 1] = hash .. ':dependents'
  if job.leased and job.count + 0 > 0 then
    job.gate = gate_of(job.collection)
    job.mine = owned(job.gate, job.ids, job.queue .. '|' .. job.id)
  end
end
expect(R .. ':worker:' .. worker .. ':executions', 'set'); expect(worker_hash, 'hash')
local some_have_dependents = #jobs > 0 and redis.call('EXISTS', unpack(dependents)) > 0

local function has_dependents(job)
  return some_have_dependents and job.dependents_queued ~= '1'
    and redis.call('EXISTS', R .. ':job:' .. job.id .. ':dependents') == 1
end

-- Write.
work_when_full(P)
local reply, ended = {}, {finished = 0, failed = 0}
for number, job in ipairs(jobs) do
  if not job.leased then
    reply[number] = job.done_before and '2' or '0'
  else
    local images, published = {}, {}
    for i, image in ipairs(job.images) do
      published[i] = job.mine[image.id] and '1' or '0'
      if job.mine[image.id] then images[#images + 1] = image end
      job.mine[image.id] = nil
    end
    if #images > 0 then publish(job.gate, job.queue, job.id, images) end
    local waits = has_dependents(job)
    if not waits then
      close(job.queue, job.id, job.execution, worker, job.status, job.answer, job.taken_at, job)
      forget(job.queue, job.id, job.execution, worker)
      ended[job.status] = ended[job.status] + 1
    end
    reply[number] = (waits and '3' or '1') .. table.concat(published)
  end
end
register()
if redis.call('EXISTS', worker_hash) == 1 then
  redis.call('HINCRBY', worker_hash, 'successful_job_count', ended.finished)
  if ended.failed > 0 then redis.call('HINCRBY', worker_hash, 'failed_job_count', ended.failed) end
end
release()
return reply
