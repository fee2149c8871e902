# Guests of a shared channel recall what they wrote, for ten minutes, also after they have left. In a conversation with
# guests, members have ten minutes too; among themselves a day. Owners and admins who are no guests recall those of
# others at any time.

locals {
  guest = contains(actor.labels, "guest")
}

forbid "guests_of_others" {
  sender = false
  when   = local.guest
  text = {
    en        = "Guests can recall only their own messages."
    "zh-Hans" = "访客只能撤回自己的消息。"
  }
}

permit "guests" {
  sender = true
  role   = ["member", "admin", "owner", "none"]
  when   = local.guest
  window = "10m"
}

permit "members_with_guests" {
  sender = true
  when   = contains(conversation.labels, "shared")
  window = "10m"
}

permit "members" {
  sender = true
  when   = !local.guest && !contains(conversation.labels, "shared")
  window = "1d"
}

permit "managers" {
  conversation = ["group", "chatroom"]
  role         = ["owner", "admin"]
  sender       = false
  window       = "any"
}
