index {
  path = "a"
}

index {
  path = "b"
}

index "third" {
  path = "c"
}
