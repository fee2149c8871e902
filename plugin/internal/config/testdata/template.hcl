index {
  path = "${home}/index"
}
