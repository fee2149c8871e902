placeholder "bye" {
  text = { en = "café closed" }
}

locals {
  names = ["Ångstrom"]
}

forbid "held" {
  when = contains(message.labels, "李-hold") || message.sender == "\u212b" || conversation.id == "Ω"
  code = "héld"
}

permit "oẃn" {
  tenant = ["李"]
  sender = true

  on_recall {
    steps     = ["é"]
    placeholder = "bye"
  }
}
