# As in WeChat: whoever sent a message has two minutes, and nobody else ever takes it back. What replaces it names who did.

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
