-- gate: the one place where an image leaves pending. Put in front of every script that settles an image.
-- needs clock and types in front of it, and these arguments at the head of the script's ARGV:
--
-- ARGV[1] P, our key prefix   ARGV[2] R, RQ's   ARGV[3] seconds that a result lives   ARGV[4] '1' if hash fields expire
--
-- Publishing moves an image from pending to results, appends to the completion stream and counts, only for the job
-- that pending names. So duplicates are impossible however often a job runs, and accepted = pending + ok + error.
--
-- A script first calls gate_of() for every collection and owned() for every job: both only read. Then it publishes.

local P, R = ARGV[1], ARGV[2]
local RESULT_MS = ARGV[3] * 1000
local FIELDS_EXPIRE = ARGV[4] == '1'
local WAITING = P .. ':waiting'

local gates = {}

-- The keys of one collection, checked.
local function gate_of(collection)
  local gate = gates[collection]
  if gate then return gate end
  gate = {
    pending = P .. ':pending:' .. collection,
    results = P .. ':results:' .. collection,
    completed = P .. ':completed:' .. collection,
    totals = P .. ':totals:' .. collection,
    dead = P .. ':dead:' .. collection,
  }
  expect(gate.pending, 'hash'); expect(gate.results, 'hash'); expect(gate.completed, 'stream')
  expect(gate.totals, 'hash'); expect(gate.dead, 'hash'); expect(WAITING, 'hash')
  gates[collection] = gate
  return gate
end

-- The ids, of those given, that `owner` may publish, as a set.
local function owned(gate, ids, owner)
  local mine = {}
  if #ids > 0 then
    for i, value in ipairs(redis.call('HMGET', gate.pending, unpack(ids))) do
      if value == owner then mine[ids[i]] = true end
    end
  end
  return mine
end

local function set_with_expiry(key, id, text)
  redis.call('HSET', key, id, text)
  if FIELDS_EXPIRE then
    redis.call('HPEXPIREAT', key, string.format('%d', milliseconds + RESULT_MS), 'FIELDS', 1, id)
  end
end

-- Publish one image that owned() has named. `text` is a JSON object; the stamps are appended before its closing brace.
-- `dead` is the one-image request of an error that may be requeued, or ''.
local function publish(gate, queue, job, id, status, text, dead)
  local oldest = string.format('%d', milliseconds - RESULT_MS)
  local entry = redis.call('XADD', gate.completed, 'MINID', '~', oldest, '*', 'id', id, 'status', status)
  local stamps = ',"entry":"' .. entry .. '","job":"' .. job .. '","finished_at":' .. stamp .. '}'
  set_with_expiry(gate.results, id, string.sub(text, 1, -2) .. stamps)
  if dead ~= '' then set_with_expiry(gate.dead, id, dead) end
  redis.call('HINCRBY', gate.totals, status, 1)
  redis.call('HINCRBY', WAITING, queue, -1)
  redis.call('HDEL', gate.pending, id)
end
