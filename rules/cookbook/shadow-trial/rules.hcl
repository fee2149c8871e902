# A trial: two minutes hold, and the plugin reports each recall that fifteen minutes would have permitted. When the
# reports look right, the mode goes.

permit "sender_in_window" {
  sender = true
}

permit "sender_in_longer_window" {
  sender = true
  window = "15m"
  mode   = "shadow"
}
