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

test "an admin of a group is not a moderator" {
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

invariant "an owner recalls own messages only" {
  when   = actor.role == "owner" && !actor.is_sender
  expect = "deny"
}

invariant "outside chatrooms only the sender recalls" {
  when   = conversation.type != "chatroom" && !actor.is_sender
  expect = "deny"
}
