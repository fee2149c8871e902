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

test "what was reported stays" {
  labels = ["reported"]
  expect = "reported"
  rule   = "reported"
}

test "a teacher takes back what a pupil sent" {
  role   = "admin"
  sender = false
  age    = "10d"
  expect = "permit"
  rule   = "teachers"
}

test "the office takes back what was reported" {
  role   = "system"
  sender = false
  labels = ["reported"]
  expect = "permit"
  rule   = "office"
}

invariant "what was reported is taken back by the office only" {
  when   = contains(message.labels, "reported") && actor.role != "system"
  expect = "deny"
}

invariant "no pupil takes back in a group after thirty seconds" {
  when   = conversation.type == "group" && actor.role == "member" && message.age > "30s"
  expect = "deny"
}

invariant "another tenant gets nothing from these rules" {
  when   = tenant != "school"
  expect = "deny"
}
