permit "own" {
  sender = true
  window = "5m"
}

permit "owners" {
  role   = ["owner"]
  window = "any"
}
