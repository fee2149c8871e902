# /etc/recall/plugin.hcl. docs/operating.md has every attribute.
plugin {
  binary = "/usr/local/bin/recall-plugin"
}

index {
  path = "/var/lib/recall/index"
}
