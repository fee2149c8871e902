# Easemob's default: a sender has two minutes; owners and admins of groups and chatrooms, and the server, have no limit.
# This equals the built-in policy and is a starting point for other policies.

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
