given "tool" {
  role   = "system"
  sender = false
  ext    = "moderation:case-4711"
  reason = "spam"
}

test "the tool" {
  given  = ["tool"]
  age    = "40d"
  expect = "permit"
  rule   = "moderation_tool"
}

test "the tool without a reason" {
  given  = ["tool"]
  reason = ""
  expect = "reason_required"
}

test "another program" {
  given  = ["tool"]
  ext    = "cleanup"
  expect = "forbidden"
}

test "a sender immediately" {
  expect = "forbidden"
}

invariant "no user recalls anything" {
  when   = actor.role != "system"
  expect = "deny"
}

invariant "nobody else recalls anything" {
  when   = !startswith(request.ext, "moderation:")
  expect = "deny"
}
