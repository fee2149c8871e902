test "an old message" {
  age    = "400d"
  expect = "permit"
  rule   = "own"
}

test "a message of others" {
  sender = false
  expect = "forbidden"
}

test "an owner" {
  sender = false
  role   = "owner"
  age    = "400d"
  expect = "permit"
  rule   = "managers"
}

invariant "senders recall their own at any time" {
  when   = actor.is_sender && actor.role != "none" && message.type != "command"
  expect = "permit"
}

invariant "in a single chat nobody recalls messages of others" {
  when   = conversation.type == "single" && !actor.is_sender && actor.role != "system"
  expect = "deny"
}
