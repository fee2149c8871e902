test "a member in a group" {
  expect = "permit"
  rule   = "sender_in_groups"
}

test "a member in a single conversation" {
  conversation = "single"
  expect       = "permit"
  rule         = "sender_in_single"
}

test "an owner" {
  role   = "owner"
  age    = "9d"
  expect = "permit"
  rule   = "managers"
}

invariant "a member in a group is always counted" {
  when   = actor.role == "member" && conversation.type != "single" && actor.is_sender && message.age <= "2m" && message.type != "command"
  expect = "permit"
  rule   = "sender_in_groups"
}

invariant "a member never recalls a message of somebody else" {
  when   = actor.role == "member" && !actor.is_sender
  expect = "deny"
}
