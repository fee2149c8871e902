permit "a" {
  tenant = ["${actor.id}"]
}
