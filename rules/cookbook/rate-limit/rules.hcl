# Against flooding: a member can recall at most five messages in ten seconds in each group, and at most twenty a minute
# in all single conversations together. Managers are not limited.

limit "per_member" {
  key  = actor.id
  rate = "20/1m"
}

limit "per_member_and_conversation" {
  key  = [actor.id, conversation.id]
  rate = "5/10s"
}

permit "managers" {
  conversation = ["group", "chatroom"]
  role         = ["owner", "admin"]
  window       = "any"
}

permit "sender_in_groups" {
  conversation = ["group", "chatroom"]
  role         = ["member"]
  sender       = true
  limit        = "per_member_and_conversation"
}

permit "sender_in_single" {
  conversation = ["single"]
  sender       = true
  limit        = "per_member"
}
