given {
  conversation = "chatroom"
  sender       = false
}

test "a moderator" {
  role   = "admin"
  age    = "1d"
  expect = "permit"
  rule   = "moderators"
}

test "the owner" {
  role   = "owner"
  expect = "forbidden"
  rule   = "default_deny"
}

test "an admin of a group is no moderator" {
  conversation = "group"
  role         = "admin"
  expect       = "forbidden"
}

test "own messages" {
  sender = true
  role   = "owner"
  expect = "permit"
  rule   = "sender_in_window"
}

invariant "an owner takes back own messages only" {
  when   = actor.role == "owner" && !actor.is_sender
  expect = "deny"
}

invariant "outside a chatroom only the sender" {
  when   = conversation.type != "chatroom" && !actor.is_sender
  expect = "deny"
}
