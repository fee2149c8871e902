# A support desk in Shanghai. During business hours agents recall what they wrote, for an hour: a supervisor sees the
# queue then. At other times no member recalls, so that the shift in the morning reads everything.

policy {
  timezone = "Asia/Shanghai"
}

locals {
  weekend = contains(["saturday", "sunday"], request.weekday)
  open    = request.time >= "09:00" && request.time < "18:00"
}

forbid "closed" {
  role = ["member", "admin", "owner"]
  when = local.weekend || !local.open
  code = "outside_business_hours"
  text = {
    en        = "Messages can be recalled from Monday to Friday, 9 am to 6 pm."
    "zh-Hans" = "仅可在周一至周五 9:00–18:00 撤回消息。"
  }
}

permit "agents" {
  sender = true
  window = "1h"
}

permit "supervisors" {
  conversation = ["group", "chatroom"]
  role         = ["owner", "admin"]
  sender       = false
  window       = "1d"
}
