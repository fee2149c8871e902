cluster {
  node     = "n0"
  replicas = 12345678901234567890
}
