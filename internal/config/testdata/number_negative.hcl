cluster {
  node     = "n0"
  replicas = -3
}
