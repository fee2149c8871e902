plugin {
  binary = "bin/recall-plugin"
}

index {
  path = "data/index"
}

cluster {
  node       = "n0"
  urls       = ["tls://10.0.0.1:4222", "tls://10.0.0.2:4222", "tls://10.0.0.3:4222"]
  durability = "unchecked"
}
