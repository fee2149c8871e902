# As in Telegram and other messengers: members recall their own messages whenever they like. Owners and admins
# also recall those of others.

policy {
  own_window_limit = "any"
}

permit "own" {
  sender = true
  window = "any"
}

permit "managers" {
  conversation = ["group", "chatroom"]
  role         = ["owner", "admin"]
  window       = "any"
}
