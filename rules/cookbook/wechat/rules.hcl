# As in WeChat: the sender can recall for two minutes, nobody else ever. The placeholder names the sender.

placeholder "recalled" {
  text = {
    en        = "{actor} recalled a message"
    "zh-Hans" = "{actor}撤回了一条消息"
  }
}

on_recall {
  placeholder = "recalled"
}

permit "sender_within_two_minutes" {
  sender = true
  window = "2m"
}
