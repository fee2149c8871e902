permit "a" {
  sender = true
