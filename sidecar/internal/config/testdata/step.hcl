plugin_file = "plugin.hcl"

listen "unix" {
  path = "/run/recall/recall.sock"
}

step "notify" {
  pull      = true
  webhook   = "https://chat.example.com/hooks/recall"
  timeout   = "2h"
  at_a_time = 200
  each_node = false
}
step "History" {
  webhook = "http://chat.example.com/hooks/recall"
  after   = ["notify", "history", "notify"]
}
step "search" {
  pull  = true
  after = ["push", "search"]
}
step "push" {
  webhook     = "https://chat.example.com/hooks/recall"
  socket      = "/run/chat.sock"
  secret_file = ""
  after       = ["search"]
}
