-- clock: Redis' own time, for every script that writes one. Put in front of the script.
-- Defines: seconds (number), milliseconds (integer), stamp ("1790000000.123456"), iso (RQ's form of a date).

local TIME = redis.call('TIME')
local milliseconds = TIME[1] * 1000 + math.floor(TIME[2] / 1000)
local seconds = TIME[1] + TIME[2] / 1000000
local stamp = string.format('%d.%06d', TIME[1], TIME[2])

-- "2026-11-24T05:37:12.659817Z": days to a civil date after Howard Hinnant's days algorithms; Lua here has no os.date.
local function iso_date(unix_seconds, microseconds)
  local days = math.floor(unix_seconds / 86400)
  local rest = unix_seconds % 86400
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year, month, day,
    math.floor(rest / 3600), math.floor(rest % 3600 / 60), rest % 60, microseconds)
end

local iso = iso_date(tonumber(TIME[1]), tonumber(TIME[2]))
