test "on Friday at 17:59 in Shanghai" {
  sent_at = "2026-11-27T09:58:59Z"
  age     = "1m"
  expect  = "permit"
  rule    = "agents"
}

test "a minute later" {
  sent_at = "2026-11-27T09:59:00Z"
  age     = "1m"
  expect  = "outside_business_hours"
  rule    = "closed"
}

test "on Saturday in Shanghai, still Friday elsewhere" {
  sent_at = "2026-11-27T17:00:00Z"
  expect  = "outside_business_hours"
}

test "an hour and a second" {
  sent_at = "2026-11-27T03:00:00Z"
  age     = "1h0m1s"
  expect  = "window_expired"
}

test "a supervisor" {
  sent_at = "2026-11-26T03:00:00Z"
  age     = "23h"
  role    = "admin"
  sender  = false
  expect  = "permit"
  rule    = "supervisors"
}

invariant "nobody recalls on Sunday" {
  when   = request.weekday == "sunday" && actor.role != "system"
  expect = "deny"
}

invariant "nobody recalls at night" {
  when   = (request.time < "09:00" || request.time >= "18:00") && actor.role != "system"
  expect = "deny"
}
