-- all_or_nothing: scripts are atomic but do not roll back; what must be whole is run by this. Put in front of a script.

-- Run `body(undo)`; when it raises, undo what it noted with `undo(command…)`, the last first, and raise again. What was
-- noted is given back: arguments may be appended to it.
local function all_or_nothing(body)
  local inverses = {}
  local done, failure = pcall(body, function(...)
    local inverse = {...}
    inverses[#inverses + 1] = inverse
    return inverse
  end)
  if done then return end
  for i = #inverses, 1, -1 do redis.pcall(unpack(inverses[i])) end
  error(failure, 0)
end
