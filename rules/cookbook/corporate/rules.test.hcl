given {
  reason = "sent to the wrong chat"
}

given "no_reason" {
  reason = ""
}

test "own message with a reason" {
  age    = "10m"
  expect = "permit"
  rule   = "own"
}

test "own message without a reason" {
  given  = ["no_reason"]
  expect = "reason_required"
  rule   = "own"
}

test "own message too late" {
  age    = "11m"
  expect = "window_expired"
}

test "a manager later" {
  role   = "admin"
  sender = false
  age    = "30d"
  expect = "permit"
  rule   = "managers"
}

test "a manager without a reason" {
  given  = ["no_reason"]
  role   = "admin"
  sender = false
  expect = "reason_required"
}

test "compliance" {
  conversation = "single"
  role         = "system"
  sender       = false
  expect       = "permit"
  rule         = "compliance"
}

invariant "nothing is recalled without a reason" {
  when   = request.reason == ""
  expect = "deny"
}

invariant "a member recalls own messages only" {
  when   = actor.role == "member" && !actor.is_sender
  expect = "deny"
}
