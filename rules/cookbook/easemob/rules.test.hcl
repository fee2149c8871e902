test "a sender has two minutes, including the last moment" {
  age    = "2m"
  expect = "permit"
  rule   = "sender_in_window"
  until  = "2m"
}

test "then it is too late" {
  age    = "2m1ns"
  expect = "window_expired"
}

test "an owner recalls an old message of somebody else" {
  role   = "owner"
  sender = false
  age    = "300d"
  expect = "permit"
  rule   = "managers_any_time"
  until  = "any"
}

test "an owner of a single conversation counts as a member" {
  conversation = "single"
  role         = "owner"
  sender       = false
  expect       = "forbidden"
}

test "the server recalls anything" {
  conversation = "single"
  role         = "system"
  sender       = false
  age          = "300d"
  expect       = "permit"
  rule         = "system"
}

test "a command is not recallable" {
  type   = "command"
  expect = "type_not_recallable"
  rule   = "command_messages"
}

invariant "a member never recalls a message of somebody else" {
  when   = actor.role == "member" && !actor.is_sender
  expect = "deny"
}

invariant "a member is too late after two minutes" {
  when   = actor.role == "member" && message.age > "2m"
  expect = "deny"
}

invariant "an actor who is not in the conversation recalls nothing, not even own messages" {
  when   = actor.role == "none"
  expect = "deny"
}

invariant "no command is ever recalled" {
  when   = message.type == "command"
  expect = "type_not_recallable"
}
