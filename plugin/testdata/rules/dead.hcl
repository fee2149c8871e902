permit "own" {
  sender = true
}

permit "own_quick" {
  sender = true
  window = "1m"
}

forbid "never" {
  when = message.age < "1s" && message.age > "1m"
}
