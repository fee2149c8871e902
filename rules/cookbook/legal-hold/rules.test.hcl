given "on_hold" {
  conversation_labels = ["legal_hold", "vip"]
}

test "without a hold" {
  expect = "permit"
  rule   = "sender_in_window"
}

test "on hold a sender cannot recall" {
  given  = ["on_hold"]
  expect = "legal_hold"
  rule   = "legal_hold"
}

test "on hold the server cannot recall" {
  given  = ["on_hold"]
  role   = "system"
  sender = false
  expect = "legal_hold"
}

test "another label is no hold" {
  conversation_labels = ["legal_hold_lifted"]
  role                = "admin"
  sender              = false
  expect              = "permit"
  rule                = "managers_any_time"
}

test "the server without a hold" {
  conversation = "single"
  role         = "system"
  sender       = false
  expect       = "permit"
  rule         = "system"
}

invariant "nothing on hold is ever recalled" {
  when   = contains(conversation.labels, "legal_hold")
  expect = "deny"
}

invariant "without a hold the server recalls anything" {
  when   = !contains(conversation.labels, "legal_hold") && actor.role == "system" && message.type != "command"
  expect = "permit"
}
