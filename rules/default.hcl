# The built-in policy: a sender takes a message back within two minutes, owners and admins of a group or
# chatroom and the server itself at any time.

policy {
  window     = "2m" # for a permit that names none
  clock_skew = "5s"
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
