permit "a" {
  sender = true ? true : false
}
