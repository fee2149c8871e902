cluster {
  node     = "n0"
  replicas = 1e99
}
