-- accept: what submit, resubmit and requeue share: a chunk of images becomes one RQ job. Put in front of them.
-- needs clock, types and all_or_nothing in front of it, and these keys and arguments at the head of the script's own:
--
-- KEYS[1] P:pending:<collection>    KEYS[2] P:totals:<collection>   KEYS[3] P:waiting   KEYS[4] P:collections
-- KEYS[5] R:queues                  KEYS[6] R:queue:<queue>         KEYS[7] R:job:<job> KEYS[8] R:results:<job>
-- ARGV[1] P:results:<collection>    read only here; not in KEYS, since a producer's role may not write it
-- ARGV[2] queue   ARGV[3] job   ARGV[4] collection   ARGV[5] model, or ''   ARGV[6] depth limit in images
-- ARGV[7] seconds until the images expire, or ''     ARGV[8] seconds that a blob must live on
-- ARGV[9] RQ timeout   ARGV[10] RQ result_ttl   ARGV[11] RQ failure_ttl   ARGV[12] retries_left
-- ARGV[13] description   ARGV[14] data
--
-- A script first reads which ids are new, then calls accept(). A call that is sent again is answered as the first time.

local pending, totals, waiting, collections = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local queues, list, hash, job_results = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local results, queue, job = ARGV[1], ARGV[2], ARGV[3]
local owner = queue .. '|' .. job

expect(pending, 'hash'); expect(totals, 'hash'); expect(waiting, 'hash'); expect(results, 'hash')
expect(collections, 'set'); expect(queues, 'set'); expect(list, 'list')

-- A field of this very job's hash, if an earlier sending of the call has written one.
local function job_field(name)
  return redis.call('TYPE', hash).ok == 'hash' and redis.call('HGET', hash, name) or nil
end

-- The answer to a call: one '1' (accepted) or '0' (known) per id, where `accepted` joins ids by newline.
local function answer_for(ids, accepted)
  local among, bits = '\n' .. accepted .. '\n', {}
  for i, id in ipairs(ids) do bits[i] = string.find(among, '\n' .. id .. '\n', 1, true) and '1' or '0' end
  return {'accepted', table.concat(bits)}
end

local function missing_blob(blobs)
  for _, blob in ipairs(blobs) do
    if redis.call('EXISTS', blob) == 0 then return {'blob_missing', blob} end
  end
end

-- Any chunk fits an empty queue, also one that is larger than the limit.
local function refusal_when_full(count)
  local depth = tonumber(redis.call('HGET', waiting, queue) or '0')
  if depth > 0 and depth + count > tonumber(ARGV[6]) then return {'full', depth} end
end

local function write_job(ids)
  local fields = {
    'status', 'queued', 'origin', queue, 'created_at', iso, 'enqueued_at', iso, 'description', ARGV[13],
    'timeout', ARGV[9], 'result_ttl', ARGV[10], 'failure_ttl', ARGV[11], 'retries_left', ARGV[12],
    'collection', ARGV[4], 'model', ARGV[5], 'images', #ids, 'ids', table.concat(ids, '\n'),
    'submitted_at', stamp, 'queued_at', stamp, 'attempts', 0, 'losses', 0, 'data', ARGV[14],
  }
  if ARGV[7] ~= '' then
    fields[#fields + 1] = 'expires_at'
    fields[#fields + 1] = string.format('%.6f', seconds + tonumber(ARGV[7]))
  end
  redis.call('DEL', hash, job_results)
  redis.call('HSET', hash, unpack(fields))
end

-- What leaves no trace but itself if a later write fails: names of queues and collections, lives of blobs.
local function prepare(blobs)
  -- First a write that a full server refuses: after any other (DEL, PEXPIRE) it lets the rest of a script pass its
  -- maxmemory.
  redis.call('SADD', queues, list)
  redis.call('SADD', collections, ARGV[4])
  local blob_ms = tonumber(ARGV[8]) * 1000
  for _, blob in ipairs(blobs) do
    local left = redis.call('PTTL', blob)
    if left >= 0 and left < blob_ms then redis.call('PEXPIRE', blob, blob_ms) end
  end
end

-- Write the job, count its images, make them pending, and put the job at the end of its queue.
local function enter(ids, blobs)
  prepare(blobs)
  local owners = {}
  for i, id in ipairs(ids) do
    owners[2 * i - 1] = id
    owners[2 * i] = owner
  end
  all_or_nothing(function(undo)
    undo('DEL', hash)
    write_job(ids)
    redis.call('HINCRBY', waiting, queue, #ids)
    undo('HINCRBY', waiting, queue, -#ids)
    redis.call('HINCRBY', totals, 'accepted', #ids)
    undo('HINCRBY', totals, 'accepted', -#ids)
    redis.call('HSET', pending, unpack(owners))
    undo('HDEL', pending, unpack(ids))
    redis.call('RPUSH', list, job)
  end)
end

-- The same for images that may have a result. It goes last, so an error half way leaves the image with it; a letter that
-- an error left behind belongs to no result, and is nobody's. `accepted` in the job's hash says to a call that is sent
-- again that the first one came to its end.
local function reenter(ids, blobs, dead)
  all_or_nothing(function(undo)
    enter(ids, blobs)
    undo('DEL', hash)
    undo('HINCRBY', waiting, queue, -#ids)
    undo('HINCRBY', totals, 'accepted', -#ids)
    undo('HDEL', pending, unpack(ids))
    undo('LREM', list, -1, job)
    redis.call('HSET', hash, 'accepted', '1')
    redis.call('HDEL', results, unpack(ids))
  end)
  redis.pcall('HDEL', dead, unpack(ids))
end

-- Accept those ids that are `new`, if there is room; with `dead`, the letters' key, they may have a result, and run afresh.
-- The answer is what submit returns.
local function accept(ids, new, blobs, dead)
  local answer = answer_for(ids, table.concat(new, '\n'))
  if #new == 0 then return answer end
  local full = refusal_when_full(#new)
  if full then return full end
  if dead then reenter(new, blobs, dead) else enter(new, blobs) end
  return answer
end
