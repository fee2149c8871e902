permit "a" {
  tenant = ["abÿ"]
}
