locals {
  staff = contains(conversation.labels, "staff") && !startswith(actor.id, "bot-")
}

permit "staff" {
  role   = ["admin", "owner"]
  sender = false
  when   = local.staff || (message.age < "1m" && message.type != "file")
  window = "any"
}
