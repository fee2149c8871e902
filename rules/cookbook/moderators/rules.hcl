# A chatroom with moderators: its admins take back what members sent, without a trace. Its owner, who is a celebrity and
# not staff, has no more rights than anybody.

permit "sender_in_window" {
  sender = true
}

permit "moderators" {
  conversation = ["chatroom"]
  role         = ["admin"]
  sender       = false
  window       = "any"
  on_recall {
    silent = true
  }
}
