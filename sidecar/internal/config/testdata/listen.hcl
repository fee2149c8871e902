plugin_file = "plugin.hcl"

listen "unix" {
  path       = "/run/recall/recall.sock"
  mode       = "0666"
  allow_uids = [1000, "root", 1000]
  token      = "s3cret"
}
listen "unix" {
  path = "/run/recall/../recall/recall.sock"
}
listen "tcp" {
  address  = "0.0.0.0:8181"
  admin    = true
}
listen "tcp" {
  address    = "127.0.0.1"
  token_file = "token"
  host_names = ["http://recall.internal"]
  tls_cert   = "cert.pem"
}
