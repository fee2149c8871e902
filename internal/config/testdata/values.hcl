index "main" {
  path = ""
}

rules {
  paths = ["rules.d", 7, ""]
}
