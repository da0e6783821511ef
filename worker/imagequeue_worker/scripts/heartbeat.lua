-- heartbeat: say that a worker lives, and renew the leases of what it holds.
-- in front: clock, types, prefixes, lease
--
-- KEYS[1] R:worker:<worker>   KEYS[2] P:rates
-- ARGV[1] P   ARGV[2] R   ARGV[3] worker   ARGV[4] lease seconds   ARGV[5] worker TTL in seconds
-- ARGV[6] its measured images per second, or ''
-- ARGV[7…] per lease: queue, job, execution
--
-- Returns {'1' if RQ knows the worker, else '0'; then the number (from 1) of each lease that is lost}.
-- A lost lease stays lost: nothing comes back to life here.

local worker_hash, rates = KEYS[1], KEYS[2]
local worker, lease_seconds, worker_ttl = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local FIRST_LEASE = 7

-- No damage to one key may keep the leases that lie elsewhere from being renewed; those in a damaged key are lost.
local registered = is_whole(worker_hash, 'hash') and redis.call('EXISTS', worker_hash) == 1
local rates_are_whole = is_whole(rates, 'hash')
work_when_full(P)
local reply = {registered and '1' or '0'}
if registered then
  redis.call('HSET', worker_hash, 'last_heartbeat', iso, 'state', #ARGV >= FIRST_LEASE and 'busy' or 'idle')
  redis.call('EXPIRE', worker_hash, worker_ttl + 60)
  redis.call('EXPIRE', R .. ':worker:' .. worker .. ':executions', worker_ttl + 60)
end
if ARGV[6] ~= '' and rates_are_whole then redis.call('HSET', rates, worker, ARGV[6] .. ' ' .. stamp) end

local lease_ms = math.ceil((lease_seconds + RQ_GRACE) * 1000)
local lease_end = string.format('%.6f', seconds + lease_seconds + RQ_GRACE)
for i = FIRST_LEASE, #ARGV, 3 do
  local queue, job, execution = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if is_whole(wip_key(queue), 'zset') and has_lease(queue, job, execution) then
    local member = job .. ':' .. execution
    redis.call('ZADD', wip_key(queue), 'XX', lease_end, member)
    -- The rest is for RQ's tools; a key of another type among it must not cost the other leases.
    if redis.pcall('PEXPIRE', R .. ':execution:' .. member, lease_ms) == 1 then
      redis.pcall('HSET', R .. ':execution:' .. member, 'last_heartbeat', stamp)
    end
    redis.pcall('ZADD', R .. ':executions:' .. job, 'XX', lease_end, execution)
    redis.pcall('PEXPIRE', R .. ':executions:' .. job, lease_ms)
    redis.pcall('HSET', R .. ':job:' .. job, 'last_heartbeat', iso)
  else
    reply[#reply + 1] = (i - FIRST_LEASE) / 3 + 1
  end
end
return reply
