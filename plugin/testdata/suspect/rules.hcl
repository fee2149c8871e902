placeholder "bye" {
  text = { en = "gone " }
}

forbid "held" {
  when = contains(message.labels, "hold​")
}

permit "own" {
  sender = true
  tenant = ["аcme", " acme"]

  on_recall {
    placeholder = "bye"
  }
}
