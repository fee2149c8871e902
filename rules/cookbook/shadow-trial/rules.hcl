# A trial: the window is two minutes, and the plugin reports each recall that fifteen minutes would have permitted. If
# the reports look right, remove the mode.

permit "sender_in_window" {
  sender = true
}

permit "sender_in_longer_window" {
  sender = true
  window = "15m"
  mode   = "shadow"
}
