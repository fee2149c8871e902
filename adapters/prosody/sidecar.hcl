# /etc/recall/sidecar.hcl for Prosody with mod_recall.
plugin_file = "plugin.hcl"
run_dir     = "/var/cache/recall" # on a file system that lets programs run

# Prosody calls here, with the token.
listen "tcp" {
  address    = "127.0.0.1:8181"
  token_file = "/etc/recall/token"
}

# Operators call here.
listen "unix" {
  path  = "/run/recall/recall.sock"
  admin = true
}

# The steps that mod_recall carries out. A step of a Prosody that was killed is done again after the timeout.
step "notify" {
  pull    = true
  timeout = "10s"
}

step "history" {
  pull    = true
  timeout = "10s"
}

step "offline" {
  pull    = true
  timeout = "10s"
}

step "roaming" {
  pull    = true
  timeout = "10s"
}

step "attachments" {
  pull    = true
  timeout = "10s"
}
