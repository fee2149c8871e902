test "in time" {
  expect = "permit"
}

test "late" {
  age    = "3m"
  expect = "window_expired"
}

invariant "nobody after two minutes" {
  when   = actor.role == "member" && message.age > "2m"
  expect = "deny"
}
