plugin {
  binary = "bin/recall-plugin"
}

index {
  path = "data/index"
}

cluster {
  node             = "n/0"
  urls             = ["tls://10.0.0.1:4222", "10.0.0.2:4222"]
  replicas         = 4
  stream           = "RECALL.*"
  ca               = "/nowhere/ca.pem"
  cert             = "/nowhere/n0.pem"
  lease            = "1s"
  forget_after     = "1d"
  snapshot_entries = "200000"
  snapshots        = true
}
