# A chatroom with moderators: its admins can recall messages of members, and clients show no placeholder. The owner, who
# is a celebrity and not staff, has only the rights of a member.

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
