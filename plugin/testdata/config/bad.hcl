plugin {
  binary        = "bin/recall-plugin"
  start_timeout = "1h"
  sha256        = "abc"
}

index {
  path = "~/index"
}

rules {
  paths = ["rules.d", "", "$HOME/r"]
}
