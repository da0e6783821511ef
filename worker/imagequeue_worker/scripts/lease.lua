-- lease: the keys by which RQ and its tools see that a worker holds a job, and how they are given up.
-- needs types, and gate or prefixes (for R), in front of it.
--
-- A lease is the entry `<job>:<execution>` in R:wip:<queue>; its score is the lease's end plus RQ_GRACE, so that RQ's
-- own clean-up comes after our reclaim. Whoever gives a lease up calls forget() and, as its last write, release().

local RQ_GRACE = 60

local function wip_key(queue) return R .. ':wip:' .. queue end

-- Damage to a queue's own keys stops this queue, and none beside it.
local function queue_is_whole(queue)
  return is_whole(R .. ':queue:' .. queue, 'list') and is_whole(wip_key(queue), 'zset')
end

local function has_lease(queue, job, execution)
  return redis.call('ZSCORE', wip_key(queue), job .. ':' .. execution)
end

-- Run a command on a key of one job; where that holds another type, nobody needs what it holds.
local function or_anew(key, ...)
  local answer = redis.pcall(...)
  if type(answer) ~= 'table' or not answer.err then return end
  redis.call('DEL', key)
  redis.call(...)
end

-- Leases to be given up, gathered over a whole call: queue -> members, worker -> members.
local given_up = {queues = {}, workers = {}}

local function forget(queue, job, execution, worker)
  local member = job .. ':' .. execution
  redis.call('DEL', R .. ':execution:' .. member, R .. ':executions:' .. job)
  local members = given_up.queues[queue] or {}
  members[#members + 1] = member
  given_up.queues[queue] = members
  local held = given_up.workers[worker] or {}
  held[#held + 1] = member
  given_up.workers[worker] = held
end

local function release()
  for worker, members in pairs(given_up.workers) do
    local executions = R .. ':worker:' .. worker .. ':executions'
    if is_whole(executions, 'set') then redis.call('SREM', executions, unpack(members)) end
  end
  for queue, members in pairs(given_up.queues) do
    redis.call('ZREM', wip_key(queue), unpack(members))
  end
end

-- A count out of a job's hash, which other hands may have written: a whole number from 0.
local function count_of(value)
  local number = tonumber(value)
  return number and number > 0 and number < 1e9 and math.floor(number) or 0
end

-- A lifetime out of a job's hash: -1 is RQ's "for ever"; what EXPIRE would refuse is as if it were not there.
local function seconds_or(value, default)
  local number = tonumber(value)
  return number and number >= -1 and number < 1e10 and math.floor(number) or default
end

-- Jobs that have ended, gathered over a whole call: registry -> {score, job, score, job …}.
local registered = {}

-- RQ's books for a job that has ended; register() completes them. `job` holds result_ttl and failure_ttl of its hash; `answer` is base64:
-- of JSON for 'finished', of zlib text for 'failed'.
local function close(queue, id, execution, worker, status, answer, started_at, job)
  local done = status == 'finished'
  local ttl = done and seconds_or(job.result_ttl, 500) or seconds_or(job.failure_ttl, 31536000)
  local hash, results = R .. ':job:' .. id, R .. ':results:' .. id
  local registry = R .. (done and ':finished:' or ':failed:') .. queue
  local entries = registered[registry] or {}
  registered[registry] = entries
  if ttl == 0 then
    redis.call('DEL', hash, results)
    return
  end
  redis.call('HSET', hash, 'status', status, 'ended_at', iso, 'finished_by', execution)
  or_anew(results, 'XADD', results, 'MAXLEN', '~', 10, '*', 'type', done and 1 or 2, 'worker_name', worker,
    done and 'return_value' or 'exc_string', answer, 'execution_id', execution,
    'execution_started_at', started_at, 'execution_ended_at', stamp)
  if ttl < 0 then
    redis.call('PERSIST', hash)
    entries[#entries + 1] = '+inf'
  else
    redis.call('EXPIRE', hash, ttl)
    redis.call('EXPIRE', results, ttl)
    entries[#entries + 1] = string.format('%d', seconds + ttl)
  end
  entries[#entries + 1] = id
end

local function register()
  for registry, entries in pairs(registered) do
    -- For RQ's tools alone: a registry of another type keeps no job from its end. What has expired goes here, since none
    -- of RQ's own workers may be there to look after it.
    if #entries > 0 and is_whole(registry, 'zset') then
      redis.call('ZREMRANGEBYSCORE', registry, '-inf', string.format('%d', seconds))
      redis.call('ZADD', registry, unpack(entries))
    end
  end
end
