index {
  path = data
}

rules {
  paths = "rules.d"
}
