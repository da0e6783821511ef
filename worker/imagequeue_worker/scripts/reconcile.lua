-- reconcile: see that every one of these pending images has a job that carries it, and mend what has none.
-- in front: clock, types, all_or_nothing, gate, verdict, lease
--
-- KEYS[1] P:pending:<collection>
-- ARGV[1…4] as the gate wants them   ARGV[5] collection   ARGV[6…] image ids, which the caller has seen pending
--
-- Returns per job that was mended {queue, job, 'requeued' or 'cancelled' or 'worker_lost', images}.
--
-- The caller's sight may be old: everything is looked at again here. What is found by the owner's job:
--   its hash is gone, or canceled              -> the images end as `cancelled`
--   failed, stopped, finished, no job at all   -> they end as `worker_lost`
--   started without a lease                    -> queued again; a worker may have died of it, so it counts as a loss
--   scheduled without an entry                 -> queued again
--   queued, and its list is empty or has moved past it -> pushed again; take skips doubles
--   of a queue whose keys are damaged          -> left alone until an operator has mended them
--   deferred without an entry, or a status that RQ does not know -> they end as `worker_lost`

local PATIENCE = 60 -- seconds by which a list's head may be younger than a job that is in the list
local HEAD_ENTRIES = 128 -- reclaimed jobs are pushed to the front with a new time, so a few entries are looked at
local FIELDS = {'status', 'data', 'model', 'attempts', 'losses', 'submitted_at', 'queued_at'}

local collection, gate = ARGV[5], gate_of(ARGV[5])
local ids = {unpack(ARGV, 6)}

-- Images by owner: {queue, id, images}.
local jobs, by_owner = {}, {}
if #ids > 0 then
  for i, owner in ipairs(redis.call('HMGET', gate.pending, unpack(ids))) do
    if owner then
      local job = by_owner[owner]
      if not job then
        local queue, id = string.match(owner, '^([^|]+)|([%w_-]+)$')
        job = {queue = queue or '', id = id or '', images = {}, seen = {}}
        by_owner[owner], jobs[#jobs + 1] = job, job
      end
      if not job.seen[ids[i]] then job.images[#job.images + 1] = ids[i] end
      job.seen[ids[i]] = true
    end
  end
end

local leased = {} -- queue -> set of jobs
local function is_leased(queue, id)
  if not leased[queue] then
    leased[queue] = {}
    for _, member in ipairs(redis.call('ZRANGE', wip_key(queue), 0, -1)) do
      leased[queue][string.match(member, '^(.+):[^:]*$') or ''] = true
    end
  end
  return leased[queue][id]
end

local heads = {} -- queue -> when the first of its jobs was queued; nil when it is empty
local function head_queued_at(queue)
  if heads[queue] == nil then
    local oldest = false
    for _, id in ipairs(redis.call('LRANGE', R .. ':queue:' .. queue, 0, HEAD_ENTRIES - 1)) do
      local at = redis.pcall('HGET', R .. ':job:' .. id, 'queued_at')
      at = type(at) == 'string' and tonumber(at) or 0
      if not oldest or at < oldest then oldest = at end
    end
    heads[queue] = oldest
  end
  return heads[queue]
end

local function verdict(job)
  if job.id == '' then return 'worker_lost' end
  local scheduled, deferred = R .. ':scheduled:' .. job.queue, R .. ':deferred:' .. job.queue
  if not (queue_is_whole(job.queue) and is_whole(scheduled, 'zset') and is_whole(deferred, 'zset')) then return nil end
  local values = redis.pcall('HMGET', R .. ':job:' .. job.id, unpack(FIELDS))
  if values.err then return 'worker_lost' end
  for i, field in ipairs(FIELDS) do job[field] = values[i] end
  if job.status == 'started' then return not is_leased(job.queue, job.id) and 'requeued' or nil end
  if job.status == 'scheduled' then
    return not redis.call('ZSCORE', scheduled, job.id) and 'requeued' or nil
  end
  if job.status == 'queued' then
    local head = head_queued_at(job.queue)
    return (not head or (tonumber(job.queued_at) or 0) + PATIENCE < head) and 'requeued' or nil
  end
  if job.status == 'canceled' then return 'cancelled' end
  if not job.status and redis.call('EXISTS', R .. ':job:' .. job.id) == 0 then return 'cancelled' end
  if job.status == 'deferred' and redis.call('ZSCORE', deferred, job.id) then return nil end
  return 'worker_lost'
end

local MESSAGES = {cancelled = 'its job was withdrawn', worker_lost = 'its job ended without a result for it'}

local function settle(job, code)
  local known, images = images_of(job.data), {}
  for i, id in ipairs(job.images) do
    images[i] = {
      id = id, status = 'error', text = failure_text(id, known[id], code, MESSAGES[code], job),
      dead = code == 'cancelled' and '' or one_image_request(id, known[id], collection, job.model),
    }
  end
  publish(gate, job.queue, job.id, images)
end

local function queue_again(job)
  local losses = count_of(job.losses) + (job.status == 'started' and 1 or 0)
  redis.call('HSET', R .. ':job:' .. job.id, 'status', 'queued', 'losses', losses, 'worker_name', '', 'started_at', '',
    'enqueued_at', iso, 'queued_at', stamp)
  redis.call('RPUSH', R .. ':queue:' .. job.queue, job.id)
end

for _, job in ipairs(jobs) do job.verdict = verdict(job) end
work_when_full(P)
local reply = {}
for _, job in ipairs(jobs) do
  if job.verdict == 'requeued' then queue_again(job) elseif job.verdict then settle(job, job.verdict) end
  if job.verdict then reply[#reply + 1] = {job.queue, job.id, job.verdict, #job.images} end
end
return reply
