policy {
  window = 120
}

permit "a" {
  when   = message.age <= 120
  window = 2.5
}
