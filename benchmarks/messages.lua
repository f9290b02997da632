-- wrk: tells dialogs message by message, each dialog of so many messages, and prints what it counted as JSON.
dofile("benchmarks/counted.lua")

local texts = {}
local sent = 0
local run

function init(args)
  for text in io.lines(args[1]) do texts[#texts + 1] = text end
  length = tonumber(args[2])
  run = args[3]
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
end

function request()
  local dialog, number = math.floor(sent / length), sent % length
  local text = texts[sent % #texts + 1]
  sent = sent + 1
  return wrk.format(nil, nil, nil, string.format(
    '{"text": %s, "dialog_id": "%s-%d", "id": "%s-%d", "participant_index": %d}', text, run, dialog, run, sent, number % 2))
end
