plugin {
  binary = "bin/recall-plugin"
}

index {
  path = "data/index"
}

rules {
  paths = ["../rules/bad.hcl"]
}
