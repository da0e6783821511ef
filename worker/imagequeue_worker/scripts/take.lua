-- take: lease the jobs at the head of the most urgent queue that has work.
-- in front: clock, types, all_or_nothing, gate, verdict, lease
--
-- KEYS[1…] R:queue:<queue>, most urgent first
-- ARGV[1…4] as the gate wants them   ARGV[5] worker   ARGV[6] images wanted   ARGV[7] lease seconds
-- ARGV[8] execution prefix, new for each call and beginning with 'iq'
-- ARGV[9…] the queues' names, in the order of KEYS
--
-- Returns {stamp, jobs, watch, milliseconds until the next scheduled job or -1, damaged}.
--   job:   {queue, job, execution, attempts, losses, collection, submitted_at, forbidden ('1' or ''), data, id…},
--          where the ids are those that the job still owns; a job that owns none is there to be finished
--   watch: the queues that this call has left empty and open, on which a worker may block; those that are less urgent
--          than the one whose jobs it gives are looked at only if that one is empty now
--   damaged: the queues that are passed over, since their list or their leases are of another type
--
-- The jobs are read before anything is written, and cut from the list last: scripts do not roll back, and an error
-- half way must leave every job where it was.

local worker, wanted, lease_seconds, prefix = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]
local IDS_MAX = 1000 -- the contract allows 64
local FIRST_QUEUE, SCAN_MAX = 9, 10000 -- SCAN_MAX: stale entries that one call may walk over
local worker_executions = R .. ':worker:' .. worker .. ':executions'
local FIELDS = {
  'status', 'images', 'ids', 'collection', 'submitted_at', 'expires_at', 'attempts', 'losses', 'data', 'model',
  'success_callback_name', 'failure_callback_name', 'stopped_callback_name', 'webhooks',
}
local FIRST_HOOK = 11 -- jobs that name callbacks or webhooks are refused

if redis.call('EXISTS', R .. ':suspended') == 1 then return {stamp, {}, {}, -1, {}} end

-- The job if it is queued; nil for ids that are stale, doubled or of another type.
local function read_job(queue, id)
  if not string.find(id, '^[%w_-]+$') then return nil end -- RQ's rule; ids also go into keys and JSON as they are
  local values = redis.pcall('HMGET', R .. ':job:' .. id, unpack(FIELDS))
  if values.err or values[1] ~= 'queued' then return nil end
  local job = {
    queue = queue, id = id, images = math.max(1, count_of(values[2])), ids = {}, collection = values[4] or '',
    submitted_at = values[5] or '', expires_at = values[6] or '', attempts = count_of(values[7]),
    losses = count_of(values[8]), data = values[9] or '', model = values[10] or '', forbidden = '',
  }
  for i = FIRST_HOOK, #FIELDS do
    if values[i] and values[i] ~= '' then job.forbidden = '1' end
  end
  for image in string.gmatch(values[3] or '', '[^\n]+') do job.ids[#job.ids + 1] = image end
  -- Never accepted by submit: it comes as a job without our fields, to be failed.
  if #job.ids > IDS_MAX or not string.find(job.collection, '^[%w_.-]+$') then job.collection, job.ids = '', {} end
  return job
end

-- A worker died while it held this job: it runs alone, so that no neighbour is charged for what it may do again.
local function is_suspect(job) return job.losses > 0 end

-- Jobs from the head of one list, until enough images are found; and how many entries were looked at.
local function read_head(list, queue)
  local jobs, images, position, seen = {}, 0, 0, {}
  while position < SCAN_MAX do
    local ids = redis.call('LRANGE', list, position, position + wanted - 1)
    if #ids == 0 then break end
    for _, id in ipairs(ids) do
      local job = not seen[id] and read_job(queue, id)
      if job then
        if #jobs > 0 and (images + job.images > wanted or is_suspect(job)) then return jobs, position end
        seen[id] = true
        jobs[#jobs + 1] = job
        images = images + job.images
      end
      position = position + 1
      if images >= wanted or (job and is_suspect(job)) then return jobs, position end
    end
  end
  return jobs, position
end

-- Put what is due back into its list; returns the milliseconds until the next one.
local function promote(list, queue)
  local scheduled = R .. ':scheduled:' .. queue
  if redis.call('TYPE', scheduled).ok ~= 'zset' then return -1 end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', scheduled, '-inf', stamp, 'LIMIT', 0, 100)) do
    local status = redis.pcall('HGET', R .. ':job:' .. id, 'status')
    if status == 'scheduled' then
      redis.call('HSET', R .. ':job:' .. id, 'status', 'queued', 'enqueued_at', iso, 'queued_at', stamp)
      redis.call('RPUSH', list, id)
    end
    redis.call('ZREM', scheduled, id)
  end
  local first = redis.call('ZRANGE', scheduled, 0, 0, 'WITHSCORES')
  return first[2] and math.max(0, math.ceil((first[2] - seconds) * 1000)) or -1
end

local jobs, watch, cuts, next_due, damaged, is_damaged = {}, {}, {}, -1, {}, {}
expect(worker_executions, 'set'); expect_counts(WAITING)
for i = FIRST_QUEUE, #ARGV do
  if not queue_is_whole(ARGV[i]) then damaged[#damaged + 1], is_damaged[ARGV[i]] = ARGV[i], true end
end
work_when_full(P)
for i, list in ipairs(KEYS) do
  local queue = ARGV[FIRST_QUEUE + i - 1]
  if not is_damaged[queue] and redis.call('SISMEMBER', P .. ':paused', queue) == 0 then
    local due = promote(list, queue)
    if due >= 0 and (next_due < 0 or due < next_due) then next_due = due end
    local looked_at = 0
    if #jobs == 0 then jobs, looked_at = read_head(list, queue) end
    if looked_at > 0 then cuts[#cuts + 1] = {list, looked_at} end
    if redis.call('LLEN', list) == looked_at then
      watch[#watch + 1] = queue
    elseif #jobs > 0 then
      break
    end
  end
end

local asked = {} -- gate -> ids, so that all jobs of a collection cost one command
for _, job in ipairs(jobs) do
  job.owned = {}
  -- A collection whose keys are damaged stops its own jobs, nobody else's: they come without images, to be failed.
  local gate = job.collection ~= '' and gate_unless_damaged(job.collection)
  if gate then
    job.gate, asked[gate] = gate, asked[gate] or {}
    for _, id in ipairs(job.ids) do asked[gate][#asked[gate] + 1] = id end
  else
    job.collection = ''
  end
end
local owners = {}
for gate, ids in pairs(asked) do owners[gate] = owners_of(gate, ids) end
for _, job in ipairs(jobs) do
  local owner, seen = job.queue .. '|' .. job.id, {}
  for _, id in ipairs(job.gate and job.ids or {}) do
    if owners[job.gate][id] == owner and not seen[id] then job.owned[#job.owned + 1] = id end
    seen[id] = true -- an id that is listed twice is one image
  end
end

local function publish_expired(job)
  local known, images = images_of(job.data), {}
  for i, id in ipairs(job.owned) do
    local text = failure_text(id, known[id], 'expired', 'its time was up before a worker took it', job)
    images[i] = {id = id, status = 'error', text = text, dead = ''}
  end
  publish(job.gate, job.queue, job.id, images)
  job.owned = {}
end

local reply, leases, members = {}, {}, {}
local lease_ms = math.ceil((lease_seconds + RQ_GRACE) * 1000)
local lease_end = string.format('%.6f', seconds + lease_seconds + RQ_GRACE)
for number, job in ipairs(jobs) do
  local execution = prefix .. number
  local member = job.id .. ':' .. execution
  local hash, executions = R .. ':job:' .. job.id, R .. ':executions:' .. job.id
  local expires_at = tonumber(job.expires_at)
  if expires_at and expires_at <= seconds then publish_expired(job) end
  job.attempts = job.attempts + 1
  redis.call('HSET', R .. ':execution:' .. member, 'id', execution, 'job_id', job.id, 'created_at', stamp,
    'last_heartbeat', stamp, 'worker_name', worker)
  redis.call('PEXPIRE', R .. ':execution:' .. member, lease_ms)
  if job.attempts > 1 then redis.call('DEL', executions) end -- one execution at a time
  or_anew(executions, 'ZADD', executions, lease_end, execution)
  redis.call('PEXPIRE', executions, lease_ms)
  leases[2 * number - 1], leases[2 * number], members[number] = lease_end, member, member
  redis.call('PERSIST', hash)
  redis.call('HSET', hash, 'status', 'started', 'started_at', iso, 'last_heartbeat', iso, 'worker_name', worker,
    'attempts', job.attempts)
  reply[number] = {
    job.queue, job.id, execution, job.attempts, job.losses, job.collection, job.submitted_at,
    job.forbidden, job.data, unpack(job.owned),
  }
end
if #jobs > 0 then
  redis.call('ZADD', wip_key(jobs[1].queue), unpack(leases)) -- they are all of one queue
  redis.call('SADD', worker_executions, unpack(members))
  redis.call('PEXPIRE', worker_executions, lease_ms)
end
for _, cut in ipairs(cuts) do redis.call('LTRIM', cut[1], cut[2], -1) end
return {stamp, reply, watch, next_due, damaged}
