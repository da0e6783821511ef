-- types: `expect(key, type)` and `is_whole(key, type)` before the first write, and `work_when_full`. For every script that
-- writes.
-- Scripts are atomic but do not roll back: a key of the wrong type must be found before anything has moved.

local expected = {}

-- Whether a key holds what it should, or nothing: for keys whose damage must stop no more than what needs them.
local function is_whole(key, kind)
  if expected[key] then return true end
  local found = redis.call('TYPE', key).ok
  expected[key] = found == 'none' or found == kind or nil
  return expected[key] or false
end

-- The same where nothing can be done without it.
local function expect(key, kind)
  if is_whole(key, kind) then return end
  local found = redis.call('TYPE', key).ok
  error('key ' .. key .. ' holds a ' .. found .. ', not a ' .. kind .. '; nothing was written')
end

-- The same for a hash of counters: a field that is no number would stop HINCRBY half way.
local function expect_counts(key)
  expect(key, 'hash')
  for _, count in ipairs(redis.call('HVALS', key)) do
    if not string.find(count, '^-?%d+$') then
      error('key ' .. key .. ' holds the count "' .. count .. '", which is no number; nothing was written')
    end
  end
end

-- A server over its maxmemory refuses a script's first write, and lets the others pass (checked on Valkey 9.1). What
-- drains the queue calls this after its checks, so that a full server is emptied; submit does not, and stays refused.
local function work_when_full(prefix)
  redis.call('DEL', prefix .. ':nothing') -- a write that needs no memory; the key never exists
end
