index {
  path = "data/index
}
