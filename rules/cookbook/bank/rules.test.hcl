given "bank" {
  tenant = "bank"
}

test "a file in the bank is not recallable" {
  given  = ["bank"]
  type   = "file"
  expect = "record_keeping"
  rule   = "bank_records"
}

test "a text in the bank has one minute" {
  given  = ["bank"]
  age    = "61s"
  expect = "window_expired"
}

test "a file elsewhere has two minutes" {
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

invariant "no file of the bank is ever recalled" {
  when   = tenant == "bank" && contains(["file", "image", "video"], message.type)
  expect = "deny"
}

invariant "nothing of the bank is recalled after one minute" {
  when   = tenant == "bank" && message.age > "1m"
  expect = "deny"
}
