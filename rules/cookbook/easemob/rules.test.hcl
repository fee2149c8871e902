test "a sender has two minutes, the last moment included" {
  age    = "2m"
  expect = "permit"
  rule   = "sender_in_window"
  until  = "2m"
}

test "then it is too late" {
  age    = "2m1ns"
  expect = "window_expired"
}

test "an owner takes back what another sent long ago" {
  role   = "owner"
  sender = false
  age    = "300d"
  expect = "permit"
  rule   = "managers_any_time"
  until  = "any"
}

test "in a single conversation nobody manages" {
  conversation = "single"
  role         = "owner"
  sender       = false
  expect       = "forbidden"
}

test "the server takes back anything" {
  conversation = "single"
  role         = "system"
  sender       = false
  age          = "300d"
  expect       = "permit"
  rule         = "system"
}

test "a command stays" {
  type   = "command"
  expect = "type_not_recallable"
  rule   = "command_messages"
}

invariant "a member never takes back what another sent" {
  when   = actor.role == "member" && !actor.is_sender
  expect = "deny"
}

invariant "a member is late after two minutes" {
  when   = actor.role == "member" && message.age > "2m"
  expect = "deny"
}

invariant "somebody who is not in the conversation takes back nothing, not even an own message" {
  when   = actor.role == "none"
  expect = "deny"
}

invariant "no command is ever recalled" {
  when   = message.type == "command"
  expect = "type_not_recallable"
}
