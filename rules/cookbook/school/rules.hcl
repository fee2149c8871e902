# A school: pupils have thirty seconds in groups and two minutes in single conversations, but cannot recall messages
# that a teacher labeled as reported. Teachers are owners and admins; they can recall anything in their groups, silently.

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
