verbose = true

index {
  path  = "data/index"
  paths = ["data/index"]

  cache {
  }
}

rules {
  path = "rules.d"
}
