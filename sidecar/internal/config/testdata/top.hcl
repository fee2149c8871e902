plugin_fil    = "plugin.hcl"
run_dir       = "~/run"
max_in_flight = "4096"

server {
  port = 8181
}
