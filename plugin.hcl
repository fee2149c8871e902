# plugin.hcl: from this file a chat server starts the recall plugin, and the plugin learns where its files are.
# Relative paths are relative to this file. Build the plugin with:
#   CGO_ENABLED=0 go build -o bin/recall-plugin ./plugin

# What the host reads.
plugin {
  binary = "bin/recall-plugin"

  # The SHA-256 of the binary. With it, nothing but this very binary is started.
  # sha256 = "…"

  # How long the plugin may take to start, and then to check its configuration.
  # start_timeout = "10s"

  # Upgrade to a new file at the binary's path by itself. Put it there by rename (mv).
  watch = true
}

# Where the index of messages and recalls is. One process at a time holds this folder; it is made if it is not there.
# It holds no text of any message, and it is what to back up.
index {
  path = "data/index"

  # Drop live messages that were sent longer ago, at least 7 days. Without it they are kept.
  # keep_messages = "400d"
}

# Who may take which message back, and for how long: rule files, and folders of which each *.hcl is read in name order.
# Without this block the built-in policy applies: a sender can recall a message for two minutes; owners and admins of
# groups and chatrooms, and the server itself, can recall any message at any time; nobody can recall a command.
#
# If they are broken when a plugin starts, the last policy that was in force decides until they are mended. on_error =
# "refuse" fails the start instead.
#
# rules {
#   paths = ["rules.d"]
#   # on_error = "refuse"
# }

# Many servers share messages and recalls through a log on NATS JetStream with a block "cluster": see docs/operating.md.
