-- SPDX-License-Identifier: Apache-2.0
-- wrk: POST the same 256-byte JSON payload again and again. One line for the benchmark: requests a second, median and 99th
-- percentile in microseconds, requests, failures. (No response(): it would cost wrk more than the request.)
local head = '{"order":1,"customer":"c-000001","pad":"'
wrk.method = "POST"
wrk.body = head .. string.rep("x", 256 - #head - 2) .. '"}'
wrk.headers["Content-Type"] = "application/json"

function done(summary, latency)
  local e = summary.errors
  local bad = e.status + e.connect + e.read + e.write + e.timeout
  io.write(string.format("RESULT %.1f %.1f %.1f %d %d\n", summary.requests / (summary.duration / 1e6),
    latency:percentile(50), latency:percentile(99), summary.requests, bad))
end
