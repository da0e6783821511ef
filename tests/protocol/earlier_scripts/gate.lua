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
  expect(gate.dead, 'hash'); expect_counts(gate.totals); expect_counts(WAITING)
  gates[collection] = gate
  return gate
end

-- Which of a job's images `owner` may publish, as a set; `ids` in any number.
local function owned(gate, ids, owner)
  local mine = {}
  if #ids > 0 then
    for i, value in ipairs(redis.call('HMGET', gate.pending, unpack(ids))) do
      if value == owner then mine[ids[i]] = true end
    end
  end
  return mine
end

local function set_with_expiry(key, ids, texts)
  local pairs_ = {}
  for i, id in ipairs(ids) do
    pairs_[2 * i - 1] = id
    pairs_[2 * i] = texts[i]
  end
  redis.call('HSET', key, unpack(pairs_))
  if FIELDS_EXPIRE then
    redis.call('HPEXPIREAT', key, string.format('%d', milliseconds + RESULT_MS), 'FIELDS', #ids, unpack(ids))
  end
end

-- Publish images of one job that owned() has named: {id, status, text, dead} each. `text` is a JSON object, to which the
-- stamps are appended before its closing brace; `dead` is the one-image request of an error that may be requeued, or ''.
-- The images leave pending with the last write, all together: an error before it leaves them where they were.
local function publish(gate, queue, job, images)
  if #images == 0 then return end
  local ids, texts, dead_ids, dead_texts, errors = {}, {}, {}, {}, 0
  for i, image in ipairs(images) do
    local entry = redis.call('XADD', gate.completed, '*', 'id', image.id, 'status', image.status) -- sweep trims by age
    ids[i] = image.id
    texts[i] = string.sub(image.text, 1, -2) .. ',"entry":"' .. entry .. '","job":"' .. job .. '","finished_at":'
      .. stamp .. '}'
    if image.status == 'error' then errors = errors + 1 end
    if image.dead ~= '' then
      dead_ids[#dead_ids + 1] = image.id
      dead_texts[#dead_ids] = image.dead
    end
  end
  set_with_expiry(gate.results, ids, texts)
  if #dead_ids > 0 then set_with_expiry(gate.dead, dead_ids, dead_texts) end
  if errors < #ids then redis.call('HINCRBY', gate.totals, 'ok', #ids - errors) end
  if errors > 0 then redis.call('HINCRBY', gate.totals, 'error', errors) end
  redis.call('HINCRBY', WAITING, queue, -#ids)
  redis.call('HDEL', gate.pending, unpack(ids))
end
