-- verdict: errors that a script writes itself, where no worker is left to write them (expired, worker_lost).
-- needs gate in front of it.
--
-- Only here is a request read in Lua, for the references of its images. It is never written back: Lua's JSON would
-- turn [] into {} and cut floats to 14 digits.

-- id -> {ref, top_k} of a job's data; empty where it cannot be read (compressed by RQ's own tools, say).
local function images_of(data)
  local images = {}
  local readable, call = pcall(cjson.decode, data or '')
  if not readable or type(call) ~= 'table' or type(call[4]) ~= 'table' then return images end
  local request = call[4].request
  if type(request) ~= 'table' or type(request.images) ~= 'table' then return images end
  for _, image in ipairs(request.images) do
    if type(image) == 'table' and type(image.id) == 'string' and type(image.ref) == 'string' then
      images[image.id] = {ref = image.ref, top_k = tonumber(request.top_k) or 5}
    end
  end
  return images
end

-- A result in the contract's form, without the gate's stamps. `job` holds submitted_at and attempts of its hash.
local function failure_text(id, image, code, message, job)
  local submitted_at = tonumber(job.submitted_at)
  if not submitted_at or not (submitted_at >= 0 and submitted_at <= seconds) then submitted_at = seconds end -- nan, inf
  return table.concat({
    '{"id":', cjson.encode(id), ',"ref":', cjson.encode(image and image.ref or ''),
    ',"status":"error","classes":[],"error":{"code":"', code, '","message":', cjson.encode(message),
    '},"model":null,"worker":"","attempt":', string.format('%d', tonumber(job.attempts) or 0),
    ',"submitted_at":', string.format('%.6f', submitted_at),
    ',"seconds":{"queue":', string.format('%.6f', seconds - submitted_at),
    ',"fetch":0.0,"decode":0.0,"infer":0.0}}',
  })
end

-- The one-image request that a dead letter keeps, or '' where the reference is not known.
local function one_image_request(id, image, collection, model)
  if not image then return '' end
  return table.concat({
    '{"version":1,"collection":', cjson.encode(collection),
    ',"model":', (model and model ~= '') and cjson.encode(model) or 'null',
    ',"top_k":', string.format('%d', image.top_k), ',"expires_in":null',
    ',"images":[{"id":', cjson.encode(id), ',"ref":', cjson.encode(image.ref), '}]}',
  })
end
