-- reclaim: put jobs whose worker is gone back to the front of their queues.
-- in front: clock, types, all_or_nothing, gate, verdict, lease
--
-- KEYS[1…] R:wip:<queue>
-- ARGV[1…4] as the gate wants them   ARGV[5] a worker that is known to be dead, or '' for every lease that has ended
-- ARGV[6] how many leases a job may lose   ARGV[7] jobs per call   ARGV[8…] the queues' names, in the order of KEYS
--
-- Returns per job {queue, job, 'requeued' or 'worker_lost' or 'dropped'}.
-- The attempt stays charged, and the loss is counted. A job that has lost its last lease ends: its images get
-- `worker_lost`, so that no image can take workers down for ever. Losses count from the last image of the job that got
-- a result: a storm that lets a job finish some images between two kills condemns none of them.

local dead_worker, losses_max, limit = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local FIRST_QUEUE, SCAN_MAX = 8, 10000

-- The job and the execution of a registry entry, if it is one of ours.
local function split(member)
  return string.match(member, '^(.+):(iq[^:]*)$')
end

local function read(queue, member)
  local id, execution = split(member)
  if not id then return nil end
  local hash = R .. ':job:' .. id
  local values = redis.pcall('HMGET', hash, 'status', 'losses', 'collection', 'ids', 'data', 'model', 'attempts',
    'submitted_at', 'worker_name', 'failure_ttl', 'origin', 'left')
  if values.err then values = {} end
  return {
    queue = queue or values[11] or '', id = id, execution = execution, status = values[1] or '',
    losses = count_of(values[2]) + 1, collection = values[3] or '', ids = values[4] or '', data = values[5],
    model = values[6], attempts = values[7], submitted_at = values[8], failure_ttl = values[10],
    worker = dead_worker ~= '' and dead_worker or values[9] or '', left_before = tonumber(values[12]),
  }
end

local jobs = {}
for i, wip in ipairs(KEYS) do
  if dead_worker == '' and queue_is_whole(ARGV[FIRST_QUEUE + i - 1]) then
    local queue = ARGV[FIRST_QUEUE + i - 1]
    local ended = string.format('%.6f', seconds + RQ_GRACE)
    local offset, page = 0, nil
    repeat -- RQ's own entries are passed over: nobody may be there to clean them up
      page = redis.call('ZRANGEBYSCORE', wip, '-inf', ended, 'LIMIT', offset, limit)
      for _, member in ipairs(page) do jobs[#jobs + 1] = read(queue, member) end
      offset = offset + #page
    until #page == 0 or #jobs >= limit or offset >= SCAN_MAX
  end
end
local executions = R .. ':worker:' .. dead_worker .. ':executions'
if dead_worker ~= '' and is_whole(executions, 'set') then
  for _, member in ipairs(redis.call('SMEMBERS', executions)) do
    local job = read(nil, member)
    if job and queue_is_whole(job.queue) and has_lease(job.queue, job.id, job.execution) then jobs[#jobs + 1] = job end
  end
end
for _, job in ipairs(jobs) do
  if job.collection ~= '' then job.gate = gate_unless_damaged(job.collection) end
  job.listed = {}
  for id in string.gmatch(job.ids, '[^\n]+') do job.listed[#job.listed + 1] = id end
  job.mine = job.gate and owned(job.gate, job.listed, job.queue .. '|' .. job.id) or {}
  job.left = 0
  for _ in pairs(job.mine) do job.left = job.left + 1 end
  if job.left_before and job.left < job.left_before then job.losses = 1 end
end

local function end_as_lost(job)
  local images, message = images_of(job.data), 'workers died on its job ' .. job.losses .. ' times'
  local mine, lost = job.mine, {}
  for _, id in ipairs(job.listed) do
    if mine[id] then
      lost[#lost + 1] = {
        id = id, status = 'error', text = failure_text(id, images[id], 'worker_lost', message, job),
        dead = one_image_request(id, images[id], job.collection, job.model),
      }
      mine[id] = nil -- an id that is listed twice is one image
    end
  end
  if job.gate then publish(job.gate, job.queue, job.id, lost) end
  redis.call('HSET', R .. ':job:' .. job.id, 'losses', job.losses)
  -- zlib text in base64, as RQ reads it: "worker_lost".
  close(job.queue, job.id, job.execution, job.worker, 'failed', 'eJwrzy/KTi2Kz8kvLgEAHHkEvA==', stamp, job)
  -- Not by its worker: that one, if it was only slow, must be told that its answer was dropped.
  redis.call('HDEL', R .. ':job:' .. job.id, 'finished_by')
end

work_when_full(P)
local reply = {}
for number, job in ipairs(jobs) do
  local what = 'dropped'
  if job.status == 'started' and job.losses >= losses_max then
    end_as_lost(job)
    what = 'worker_lost'
  elseif job.status == 'started' then
    redis.call('HSET', R .. ':job:' .. job.id, 'status', 'queued', 'losses', job.losses, 'left', job.left,
      'worker_name', '', 'started_at', '', 'enqueued_at', iso, 'queued_at', stamp)
    redis.call('LPUSH', R .. ':queue:' .. job.queue, job.id)
    what = 'requeued'
  end
  forget(job.queue, job.id, job.execution, job.worker)
  reply[number] = {job.queue, job.id, what}
end
register()
release()
return reply
