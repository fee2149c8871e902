permit "own" {
sender=true
}
