# A company: everybody can recall for ten minutes and must give a reason. Managers and compliance can recall at any
# time, and what they recall is archived.

locals {
  managers = ["owner", "admin"]
}

policy {
  window = "10m"
}

placeholder "with_reason" {
  text = { en = "{actor} recalled a message: {reason}" }
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
