-- backlog: what a queue still has to do, for metrics and status. Reads only.
--
-- KEYS[1] P:waiting   KEYS[2] P:rates
-- ARGV[1] R   ARGV[2…] queues
--
-- Returns {stamp, images per second of the fleet, then per queue: images waiting, images leased, submitted_at of the
-- oldest job or ''}. The rate sums the workers heard of in the last RECENT seconds; the newest one stands if none was.

local R, RECENT = ARGV[1], 30
local TIME = redis.call('TIME')
local seconds = TIME[1] + TIME[2] / 1000000

local rate, newest, newest_at = 0, 0, 0
-- What a damaged key would say is missing from the numbers; `imagequeue doctor` names the key.
local function read(...)
  local reply = redis.pcall(...)
  return not (type(reply) == 'table' and reply.err) and reply or nil
end

for _, text in ipairs(read('HVALS', KEYS[2]) or {}) do
  local value, at = string.match(text, '^(%S+) (%S+)$')
  value, at = tonumber(value), tonumber(at)
  if value and at then
    if seconds - at <= RECENT then rate = rate + value end
    if at > newest_at then newest, newest_at = value, at end
  end
end
if rate == 0 then rate = newest end

local reply = {string.format('%d.%06d', TIME[1], TIME[2]), string.format('%.3f', rate)}
for i = 2, #ARGV do
  local queue = ARGV[i]
  local leased, oldest = 0, nil
  local function look(job)
    local values = redis.pcall('HMGET', R .. ':job:' .. job, 'images', 'submitted_at')
    if values.err then return 0 end
    local at = tonumber(values[2])
    if at and (not oldest or at < oldest) then oldest = at end
    return tonumber(values[1]) or 1
  end
  for _, member in ipairs(read('ZRANGE', R .. ':wip:' .. queue, 0, -1) or {}) do
    local job = string.match(member, '^(.+):[^:]*$')
    if job then leased = leased + look(job) end
  end
  local head = read('LINDEX', R .. ':queue:' .. queue, 0)
  if head then look(head) end
  reply[#reply + 1] = read('HGET', KEYS[1], queue) or '0'
  reply[#reply + 1] = tostring(leased)
  reply[#reply + 1] = oldest and string.format('%.6f', oldest) or ''
end
return reply
