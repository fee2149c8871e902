test "in time nothing changes" {
  age    = "2m"
  expect = "permit"
  rule   = "sender_in_window"
  until  = "2m"
  shadow = "permit"
}

test "too late, but not for the trial" {
  age    = "10m"
  expect = "window_expired"
  shadow = "permit"
}

test "too late for both" {
  age    = "16m"
  expect = "window_expired"
  shadow = "window_expired"
}

invariant "the trial decides nothing" {
  when   = message.age > "2m"
  expect = "deny"
}
