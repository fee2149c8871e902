policy {
  window     = "8d"
  clock_skew = "1h"
  windov     = "2m"
}

permit "a" {
  role         = ["admim"]
  conversation = "group"
  type         = [image]
  sender       = "true"
}

permit "a" {
  role = []
}

permit "long" {
  sender = true
  window = "169h"
}

permit "sender_any" {
  sender = true
  window = "any"
}

permit "members_any" {
  window = "any"
}

permit "some_members_any" {
  role   = ["owner", "member"]
  window = "any"
}

permit "nonsense" {
  window = "soon"
  tenant = ["acme", "acme", 5]
  code   = "x"
}

forbid "f" {
  code   = "Not A Code"
  window = "2m"
}

forbid "zero" "two" {
}

permit {
  window = "0s"
}

permt "typo" {
}

policy {
}

permit "default_deny" {
  sender = true
}

permit "1" {
  sender = true
}

comment = "x"
