# A school: pupils have thirty seconds in groups and two minutes in single conversations. Nothing that a teacher
# reported disappears: when one does, the host adds the label "reported" to the message (Amend). Teachers are owners and
# admins; they can recall anything else in their groups, silently.

policy {
  window = "2m"
}

window "pupils_in_groups" {
  tenant       = ["school"]
  conversation = ["group", "chatroom"]
  within       = "30s"
}

forbid "reported" {
  tenant = ["school"]
  when   = contains(message.labels, "reported") && actor.role != "system"
  code   = "reported"
  text = {
    en        = "This message was reported, so it can't be recalled."
    "zh-Hans" = "这条消息已被举报，不能撤回。"
  }
}

permit "pupils" {
  tenant = ["school"]
  role   = ["member"]
  sender = true
}

permit "teachers" {
  tenant       = ["school"]
  conversation = ["group", "chatroom"]
  role         = ["owner", "admin"]
  window       = "any"
  on_recall {
    silent      = true
    disposition = "archive"
    retention   = "365d"
  }
}

permit "office" {
  tenant = ["school"]
  role   = ["system"]
  window = "any"
}
