-- finish: publish the images of leased jobs, and close the jobs in RQ.
-- in front: clock, types, all_or_nothing, gate, lease
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
  local job = {images = {}, ids = {}}
  job.queue, job.id, job.execution, job.collection, job.status, job.answer, job.taken_at, job.dependents_queued,
    job.count = next_arguments(9)
  for i = 1, job.count do
    local image = {}
    image.id, image.status, image.text, image.dead = next_arguments(4)
    job.images[i], job.ids[i] = image, image.id
  end
  jobs[#jobs + 1] = job
end

-- Which leases are still held: one command for each queue.
local function note_leases(all)
  local queues = {}
  for _, job in ipairs(all) do
    local of_queue = queues[job.queue] or {jobs = {}, members = {}}
    queues[job.queue] = of_queue
    of_queue.jobs[#of_queue.jobs + 1] = job
    of_queue.members[#of_queue.members + 1] = job.id .. ':' .. job.execution
  end
  for queue, of_queue in pairs(queues) do
    local scores = redis.call('ZMSCORE', wip_key(queue), unpack(of_queue.members))
    for i, job in ipairs(of_queue.jobs) do job.leased = scores[i] end
  end
end

-- Read: whatever is of the wrong type must be met before the first write.
local dependents, asked = {}, {} -- asked: gate -> ids, so that all jobs of a collection cost one command
for _, job in ipairs(jobs) do
  local hash = R .. ':job:' .. job.id
  expect(wip_key(job.queue), 'zset')
  local fields = redis.call('HMGET', hash, 'result_ttl', 'failure_ttl', 'finished_by')
  job.result_ttl, job.failure_ttl = fields[1], fields[2]
  job.done_before = fields[3] == job.execution
  dependents[#dependents + 1] = hash .. ':dependents'
end
note_leases(jobs)
for _, job in ipairs(jobs) do
  if job.leased and job.count + 0 > 0 then
    job.gate = gate_of(job.collection)
    local ids = asked[job.gate] or {}
    asked[job.gate] = ids
    for _, id in ipairs(job.ids) do ids[#ids + 1] = id end
  end
end
local owners = {}
for gate, ids in pairs(asked) do owners[gate] = owners_of(gate, ids) end
local some_have_dependents = #jobs > 0 and redis.call('EXISTS', unpack(dependents)) > 0

-- Which images each job publishes: those that it owns, and each once. Gathered by collection and queue.
local groups = {}
for _, job in ipairs(jobs) do
  job.published = {}
  local owner = job.queue .. '|' .. job.id
  for i, image in ipairs(job.leased and job.images or {}) do
    local mine = owners[job.gate][image.id] == owner
    job.published[i] = mine and '1' or '0'
    if mine then
      owners[job.gate][image.id] = nil
      local queues = groups[job.gate] or {}
      groups[job.gate], queues[job.queue] = queues, queues[job.queue] or {}
      image.job = job.id
      table.insert(queues[job.queue], image)
    end
  end
end

local function has_dependents(job)
  return some_have_dependents and job.dependents_queued ~= '1'
    and redis.call('EXISTS', R .. ':job:' .. job.id .. ':dependents') == 1
end

-- Write.
work_when_full(P)
for gate, queues in pairs(groups) do
  for queue, images in pairs(queues) do publish(gate, queue, nil, images) end
end
local reply, ended = {}, {finished = 0, failed = 0}
for number, job in ipairs(jobs) do
  if not job.leased then
    reply[number] = job.done_before and '2' or '0'
  else
    local waits = has_dependents(job)
    if not waits then
      close(job.queue, job.id, job.execution, worker, job.status, job.answer, job.taken_at, job)
      forget(job.queue, job.id, job.execution, worker)
      ended[job.status] = ended[job.status] + 1
    end
    reply[number] = (waits and '3' or '1') .. table.concat(job.published)
  end
end
register()
if is_whole(worker_hash, 'hash') and redis.call('EXISTS', worker_hash) == 1 then
  redis.call('HINCRBY', worker_hash, 'successful_job_count', ended.finished)
  if ended.failed > 0 then redis.call('HINCRBY', worker_hash, 'failed_job_count', ended.failed) end
end
release()
return reply
