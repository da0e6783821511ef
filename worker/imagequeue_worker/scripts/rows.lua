-- rows: images as publish and settle are given them. Put in front of these two.
-- needs clock, types, all_or_nothing and gate in front of it

-- Publish those images of ARGV, from `first` on four each (id, status, text, dead), that the job owns.
-- Gives one '1' (published) or '0' (not owned) per image, in one string.
local function publish_rows(gate, queue, job, first)
  local ids = {}
  for i = first, #ARGV, 4 do ids[#ids + 1] = ARGV[i] end
  local mine = owned(gate, ids, queue .. '|' .. job)
  local images, reply = {}, {}
  for i = first, #ARGV, 4 do
    local id = ARGV[i]
    reply[#reply + 1] = mine[id] and '1' or '0'
    if mine[id] then
      images[#images + 1] = {id = id, status = ARGV[i + 1], text = ARGV[i + 2], dead = ARGV[i + 3]}
      mine[id] = nil -- an id that is listed twice is one image
    end
  end
  work_when_full(P)
  publish(gate, queue, job, images)
  return table.concat(reply)
end
