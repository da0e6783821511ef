-- types: `expect(key, type)` before the first write. Put in front of every script that writes.
-- Scripts are atomic but do not roll back: a key of the wrong type must be found before anything has moved.

local expected = {}

local function expect(key, kind)
  if expected[key] then return end
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= kind then
    error('key ' .. key .. ' holds a ' .. found .. ', not a ' .. kind .. '; nothing was written')
  end
  expected[key] = true
end
