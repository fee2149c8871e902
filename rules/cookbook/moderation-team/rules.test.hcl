given {
  sender = false
}

test "a moderator" {
  actor_labels = ["moderator"]
  age          = "30d"
  expect       = "permit"
  rule         = "moderators"
}

test "an own message" {
  sender = true
  expect = "permit"
  rule   = "own"
}

test "a trainee, too late" {
  actor_labels = ["moderator", "trainee"]
  reason       = "spam"
  age          = "2h"
  expect       = "window_expired"
  rule         = "trainees"
}

test "an owner without labels" {
  role   = "owner"
  expect = "forbidden"
}

test "a message of the team" {
  role   = "owner"
  labels = ["by_moderator"]
  expect = "by_moderator"
}

invariant "without the label nobody recalls messages of others" {
  when   = !actor.is_sender && !contains(actor.labels, "moderator")
  expect = "deny"
}

invariant "trainees never recall without a reason" {
  when   = !actor.is_sender && contains(actor.labels, "trainee") && request.reason == ""
  expect = "deny"
}
