limit "a" {
  key  = message.age
  rate = "20/m"
}

limit "b" {
  key  = [actor.id, actor.id, "x", actor.nam]
  rate = "0/1m"
}

limit "c" {
  key  = []
  rate = "5/30d"
}

limit "d" {
}

window "w" {
  within = "8d"
  role   = ["owner"]
}

placeholder "t" {
  text = { en = "{actr} took it back", "no tag" = "x", fr = "{actor", de = "" }
}

placeholder "u" {
  text = "gone"
}

on_recall {
  steps       = ["Notify", "history"]
  silent      = true
  placeholder   = "v"
  disposition = "archiv"
}

on_recall {
}

forbid "permit_as_code" {
  code = "permit"
  when = message.age > "99999d" || message.age > "50000d" || contains({ a = "b" }, message.id)
}

permit "p" {
  mode   = "Shadow"
  reason = "optional"
  limit  = "aa"
  on_recall {
    disposition = "archive"
  }
  on_recall {
    retention = "1d"
  }
  on_recal {
  }
}

locals "named" {
  x = "y"
  block {
  }
}

permit "cascades" {
  on_recall {
    cascade = ["edit", "quotes"]
  }
}

permit "cascade_word" {
  on_recall { cascade = "quote" }
}
