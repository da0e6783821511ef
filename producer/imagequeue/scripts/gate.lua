-- gate: the one place where an image leaves pending. Put in front of every script that settles an image.
-- needs clock, types and all_or_nothing in front of it, and these arguments at the head of the script's ARGV:
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

-- id -> owner of those images that are pending; `ids` in any number.
local IDS_PER_COMMAND = 1000 -- Lua's stack bounds what a command may be given
local function owners_of(gate, ids)
  local owners = {}
  for from = 1, #ids, IDS_PER_COMMAND do
    local part = {unpack(ids, from, math.min(from + IDS_PER_COMMAND - 1, #ids))}
    for i, owner in ipairs(redis.call('HMGET', gate.pending, unpack(part))) do owners[part[i]] = owner or nil end
  end
  return owners
end

-- The keys of a collection, or nil where they are damaged: that stops its own jobs, nobody else's. Any other error is no
-- damage, and is raised.
local function gate_unless_damaged(collection)
  local whole, gate = pcall(gate_of, collection)
  if whole then return gate end
  if string.find(tostring(gate), '; nothing was written', 1, true) then return nil end -- as expect() says it
  error(gate, 0)
end

-- Which of a job's images `owner` may publish, as a set; `ids` in any number.
local function owned(gate, ids, owner)
  local mine = {}
  for id, current in pairs(owners_of(gate, ids)) do
    if current == owner then mine[id] = true end
  end
  return mine
end

local function set_with_expiry(key, ids, texts, undo)
  local pairs_ = {}
  for i, id in ipairs(ids) do
    pairs_[2 * i - 1] = id
    pairs_[2 * i] = texts[i]
  end
  redis.call('HSET', key, unpack(pairs_))
  undo('HDEL', key, unpack(ids))
  if FIELDS_EXPIRE then
    redis.call('HPEXPIREAT', key, string.format('%d', milliseconds + RESULT_MS), 'FIELDS', #ids, unpack(ids))
  end
end

local function count(key, field, by, undo)
  redis.call('HINCRBY', key, field, by)
  undo('HINCRBY', key, field, -by)
end

-- Publish images of one collection and queue that owned() has named: {id, status, text, dead} each, and `job` where
-- they are of several jobs. `text` is a JSON object, to which the stamps are appended before its closing brace; `dead` is
-- the one-image request of an error that may be requeued, or ''.
-- The images leave pending with the last write, all together: an error before it leaves them where they were, and no
-- trace of this call.
local function publish(gate, queue, job, images)
  if #images == 0 then return end
  local ids, texts, dead_ids, dead_texts, errors = {}, {}, {}, {}, 0
  all_or_nothing(function(undo)
    local removal = undo('XDEL', gate.completed)
    for i, image in ipairs(images) do
      local entry = redis.call('XADD', gate.completed, '*', 'id', image.id, 'status', image.status) -- sweep trims by age
      removal[#removal + 1] = entry
      ids[i] = image.id
      texts[i] = string.sub(image.text, 1, -2) .. ',"entry":"' .. entry .. '","job":"' .. (image.job or job)
        .. '","finished_at":' .. stamp .. '}'
      if image.status == 'error' then errors = errors + 1 end
      if image.dead ~= '' then
        dead_ids[#dead_ids + 1] = image.id
        dead_texts[#dead_ids] = image.dead
      end
    end
    set_with_expiry(gate.results, ids, texts, undo)
    if #dead_ids > 0 then set_with_expiry(gate.dead, dead_ids, dead_texts, undo) end
    if errors < #ids then count(gate.totals, 'ok', #ids - errors, undo) end
    if errors > 0 then count(gate.totals, 'error', errors, undo) end
    count(WAITING, queue, -#ids, undo)
    redis.call('HDEL', gate.pending, unpack(ids))
  end)
end

-- Give an image that owned() has named another try: from now on it belongs to a new job, which take finds when it is
-- due. `fields` is the new job's hash, `due` in Unix seconds. Moving the ownership is the last write: before it, the new
-- job owns nothing.
local function retry(gate, queue, id, job, fields, due)
  redis.call('HSET', R .. ':job:' .. job, unpack(fields))
  redis.call('ZADD', R .. ':scheduled:' .. queue, string.format('%.6f', due), job)
  redis.call('HSET', gate.pending, id, queue .. '|' .. job)
end
