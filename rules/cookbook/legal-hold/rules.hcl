# Legal hold: while the host labels a conversation legal_hold, nobody can recall anything in it, not even the server.
# Other conversations follow the built-in policy.

forbid "legal_hold" {
  when = contains(conversation.labels, "legal_hold")
  code = "legal_hold"
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
