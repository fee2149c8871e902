permit "a" {
  when = actor.role = "owner"
}
