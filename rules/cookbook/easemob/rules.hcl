# Easemob's default: a sender has two minutes, owners and admins of a group or chatroom and the server have no end.
# This is the built-in policy, written out to start from.

policy {
  window = "2m"
}

forbid "command_messages" {
  type = ["command"]
  code = "type_not_recallable"
}

permit "sender_in_window" {
  sender = true
}

permit "managers_any_time" {
  conversation = ["group", "chatroom"]
  role         = ["owner", "admin"]
  window       = "any"
}

permit "system" {
  role   = ["system"]
  window = "any"
}
