# Several tenants, one of them a bank: there no file, image or video can be recalled, and texts only for one minute.

locals {
  bank    = ["bank"]
  records = ["file", "image", "video"]
}

forbid "bank_records" {
  tenant = local.bank
  type   = local.records
  code   = "record_keeping"
}

window "bank" {
  tenant = local.bank
  within = "1m"
}

permit "sender_in_window" {
  sender = true
}

permit "managers_any_time" {
  conversation = ["group", "chatroom"]
  role         = ["owner", "admin"]
  when         = tenant != "bank"
  window       = "any"
}
