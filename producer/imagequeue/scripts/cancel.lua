-- cancel: end pending images as `cancelled`, whoever carries them.
-- in front: clock, types, all_or_nothing, gate, verdict
--
-- KEYS[1] P:pending:<collection>
-- ARGV[1…4] as the gate wants them   ARGV[5] collection   ARGV[6] the one job to cancel, or '' for any
-- ARGV[7…] image ids
--
-- Returns one '1' (cancelled) or '0' (not pending, or of another job) per id, in one string. It is shorter than the ids
-- when their jobs hold more than DATA_MAX bytes: the rest is for another call.
--
-- What a worker is classifying is fenced out by ownership: its answer for these images will be dropped. Their job stays
-- where it is: who takes a job that owns no image any more finishes it. Cancelled images cannot be requeued, so there
-- is no dead letter.

local DATA_MAX = 16 * 1024 * 1024 -- of requests that one call reads for their references, however many there are
local collection, only = ARGV[5], ARGV[6]
local gate = gate_of(collection)
local ids = {unpack(ARGV, 7)}
local owners = redis.call('HMGET', gate.pending, unpack(ids))

-- queue|job as submit writes it; nil for what other hands have put there.
local function split(owner)
  return string.match(owner, '^([^|]+)|([%w_-]+)$')
end

local function read_job(queue, id)
  local values = redis.pcall('HMGET', R .. ':job:' .. id, 'data', 'submitted_at', 'attempts')
  if values.err then values = {} end
  local data = values[1] or ''
  return {
    queue = queue, id = id, images = {}, size = #data, known = images_of(data), submitted_at = values[2],
    attempts = values[3],
  }
end

local jobs, order, reply, seen, size = {}, {}, {}, {}, 0
for i, id in ipairs(ids) do
  if size > DATA_MAX then break end
  local queue, job_id
  if owners[i] then queue, job_id = split(owners[i]) end
  if seen[id] then job_id = nil end -- named twice, it is one image
  seen[id] = true
  if job_id and (only == '' or only == job_id) then
    local job = jobs[owners[i]]
    if not job then
      job = read_job(queue, job_id)
      jobs[owners[i]], order[#order + 1], size = job, job, size + job.size
    end
    local text = failure_text(id, job.known[id], 'cancelled', 'it was withdrawn before a worker was done with it', job)
    job.images[#job.images + 1] = {id = id, status = 'error', text = text, dead = ''}
    reply[i] = '1'
  else
    reply[i] = '0'
  end
end

work_when_full(P)
for _, job in ipairs(order) do publish(gate, job.queue, job.id, job.images) end
return table.concat(reply)
