-- wrk's script: posts each body of a file in turn, with ids that no request has had before.
-- wrk ... URL -- FILE RUN: FILE has one body a line with \1 where the request's number goes; RUN tells runs apart.

local bodies, number, run = {}, 0, ""

function init(args)
  run = args[2]
  for line in io.lines(args[1]) do
    local pieces, marks = {}, 0
    for piece in (line .. "\1"):gmatch("([^\1]*)\1") do
      if #pieces > 0 then
        pieces[#pieces + 1] = ""
        marks = marks + 1
      end
      pieces[#pieces + 1] = piece
    end
    local length = #line - marks + marks * (#run + 10)
    pieces[1] = string.format(
      "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
      wrk.path, wrk.host, length, pieces[1])
    bodies[#bodies + 1] = pieces
  end
end

function request()
  number = number + 1
  local pieces = bodies[number % #bodies + 1]
  local fresh = run .. string.format("%010x", number)
  for place = 2, #pieces, 2 do
    pieces[place] = fresh
  end
  return table.concat(pieces)
end

function done(summary, latency)
  io.write(string.format(
    '{"requests": %d, "micros": %d, "errors": %d, "p50_us": %d, "p99_us": %d}\n',
    summary.requests, summary.duration,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
