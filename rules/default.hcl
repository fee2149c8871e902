# The built-in policy: senders can recall their messages for two minutes; owners and admins of groups and chatrooms, and
# the server itself, can recall any message at any time.

policy {
  window     = "2m" # of permits that name none
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
