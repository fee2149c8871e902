permit "own" {
  sender = true
  window = "8d"
}

forbid "hold" {
  when = mesage.type == "file" || contains(conversation.label, "hold")
}

forbid "admins" {
  when = actor.role == "admim" || actor.role == 5 || message.age <= message.type
}
