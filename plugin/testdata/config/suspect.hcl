plugin {
  binary = "bin/recall-plugin"
}

index {
  path = "data/index "
}
