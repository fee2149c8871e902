plugin {
  binary = "bin/recall-plugin"
}
