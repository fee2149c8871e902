test "a guest who left" {
  role         = "none"
  actor_labels = ["guest"]
  age          = "9m"
  expect       = "permit"
  rule         = "guests"
}

test "a member who left" {
  role   = "none"
  expect = "forbidden"
}

test "a guest who is an admin" {
  role         = "admin"
  actor_labels = ["guest"]
  sender       = false
  expect       = "forbidden"
  rule         = "guests_of_others"
}

test "an own message of a guest who is an admin" {
  role         = "admin"
  actor_labels = ["guest"]
  age          = "9m"
  expect       = "permit"
  rule         = "guests"
}

test "an admin" {
  role   = "admin"
  sender = false
  age    = "30d"
  expect = "permit"
  rule   = "managers"
}

test "a member, among members" {
  age    = "23h"
  expect = "permit"
}

test "a member, with guests" {
  conversation_labels = ["shared"]
  age                 = "23h"
  expect              = "window_expired"
}

invariant "guests recall own messages only, for ten minutes" {
  when   = contains(actor.labels, "guest") && (!actor.is_sender || message.age > "10m")
  expect = "deny"
}
