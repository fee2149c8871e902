plugin {
  binary = "bin/recall-plugin"
}

index {
  path = "data/index"
}

cluster {
  node               = "n0"
  urls               = ["tls://recall:secret@10.0.0.1:4222"]
  replicas           = 2
  system_credentials = "/nowhere/sys.creds"
  lease              = "1h"
}
