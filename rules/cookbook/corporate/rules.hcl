# A company: everybody has ten minutes and must say why; managers and compliance take back for good, and what they take
# back is archived.

locals {
  managers = ["owner", "admin"]
}

policy {
  window = "10m"
}

placeholder "with_reason" {
  text = { en = "{actor} took back a message: {reason}" }
}

on_recall {
  placeholder = "with_reason"
}

permit "own" {
  role   = ["member", "owner", "admin"]
  sender = true
  reason = "required"
}

permit "managers" {
  conversation = ["group", "chatroom"]
  role         = local.managers
  sender       = false
  window       = "any"
  reason       = "required"
  on_recall {
    placeholder = "with_reason"
    disposition = "archive"
    retention   = "2555d"
  }
}

permit "compliance" {
  role   = ["system"]
  window = "any"
  reason = "required"
  on_recall {
    silent      = true
    disposition = "archive"
    retention   = "2555d"
  }
}
