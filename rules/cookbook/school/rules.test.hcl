given {
  tenant = "school"
}

test "a pupil in a group has thirty seconds" {
  age    = "30s"
  expect = "permit"
  rule   = "pupils"
  until  = "30s"
}

test "and then it is too late" {
  age    = "31s"
  expect = "window_expired"
}

test "a pupil in a single conversation has two minutes" {
  conversation = "single"
  age          = "31s"
  expect       = "permit"
  until        = "2m"
}

test "a reported message is not recallable" {
  labels = ["reported"]
  expect = "reported"
  rule   = "reported"
}

test "a teacher recalls a message of a pupil" {
  role   = "admin"
  sender = false
  age    = "10d"
  expect = "permit"
  rule   = "teachers"
}

test "the office recalls a reported message" {
  role   = "system"
  sender = false
  labels = ["reported"]
  expect = "permit"
  rule   = "office"
}

invariant "only the office recalls reported messages" {
  when   = contains(message.labels, "reported") && actor.role != "system"
  expect = "deny"
}

invariant "no pupil recalls in a group after thirty seconds" {
  when   = conversation.type == "group" && actor.role == "member" && message.age > "30s"
  expect = "deny"
}

invariant "these rules permit nothing in another tenant" {
  when   = tenant != "school"
  expect = "deny"
}
