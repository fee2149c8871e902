# /etc/recall/sidecar.hcl, for recall-sidecar.service and the image of the Dockerfile. docs/any-language.md has every
# attribute.
plugin_file = "plugin.hcl"
run_dir     = "/var/cache/recall" # on a file system that lets programs run

listen "unix" {
  path  = "/run/recall/recall.sock"
  admin = true
}

step "notify" {
  pull = true
}

step "history" {
  pull  = true
  after = ["notify"]
}

# Or as a signed webhook. The secret: echo "whsec_$(openssl rand -base64 32)" > hooks.secret, mode 0640, root:recall.
#
# step "attachments" {
#   webhook     = "https://chat.example.com/hooks/recall"
#   secret_file = "hooks.secret"
# }
