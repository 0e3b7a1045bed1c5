-- wrk: each request is the next body of a file, and the end prints one line of JSON.
-- Arguments: the file of bodies, one a line; the path; more header lines as "Name: value".
local requests, place = {}, 0

function init(arguments)
  local headers = { ["Content-Type"] = "application/json" }
  for i = 3, #arguments do
    local name, value = arguments[i]:match("^(.-): (.*)$")
    headers[name] = value
  end
  for body in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("POST", arguments[2], headers, body)
  end
end

function request()
  place = place % #requests + 1
  return requests[place]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %.6f, "not_200": %d, "broken": %d, "timeouts": %d, ' ..
    '"p50_ms": %.4f, "p90_ms": %.4f, "p99_ms": %.4f, "max_ms": %.4f}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write, errors.timeout,
    latency:percentile(50.0) / 1e3, latency:percentile(90.0) / 1e3,
    latency:percentile(99.0) / 1e3, latency.max / 1e3))
end
