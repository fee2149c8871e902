index {
  path = "data/index"
}

indexx {
  path = "data/index"
}
