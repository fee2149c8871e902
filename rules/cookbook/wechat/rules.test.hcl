test "in time" {
  age    = "2m"
  expect = "permit"
  rule   = "sender_within_two_minutes"
}

test "too late" {
  age    = "121s"
  expect = "window_expired"
}

test "the owner of a group has no special rights" {
  role   = "owner"
  sender = false
  expect = "forbidden"
}

invariant "only the sender recalls, whatever the role" {
  when   = !actor.is_sender
  expect = "deny"
}

invariant "never after two minutes" {
  when   = message.age > "2m"
  expect = "deny"
}

invariant "always within two minutes" {
  when   = actor.is_sender && actor.role != "none" && message.age <= "2m" && message.type != "command"
  expect = "permit"
}
