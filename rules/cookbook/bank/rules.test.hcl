given "bank" {
  tenant = "bank"
}

test "a file in the bank stays" {
  given  = ["bank"]
  type   = "file"
  expect = "record_keeping"
  rule   = "bank_records"
}

test "a text in the bank has a minute" {
  given  = ["bank"]
  age    = "61s"
  expect = "window_expired"
}

test "a file elsewhere has two" {
  type   = "file"
  age    = "61s"
  expect = "permit"
  rule   = "sender_in_window"
  until  = "2m"
}

test "an owner elsewhere" {
  role   = "owner"
  sender = false
  age    = "3d"
  expect = "permit"
  rule   = "managers_any_time"
}

invariant "no file of the bank is ever taken back" {
  when   = tenant == "bank" && contains(["file", "image", "video"], message.type)
  expect = "deny"
}

invariant "nothing of the bank is taken back after a minute" {
  when   = tenant == "bank" && message.age > "1m"
  expect = "deny"
}
