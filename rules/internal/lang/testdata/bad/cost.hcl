locals {
  a = actor.is_sender || message.type == "text"
  b = local.a || local.a || local.a || local.a || local.a || local.a || local.a || local.a
  c = local.b || local.b || local.b || local.b || local.b || local.b || local.b || local.b
  d = local.c || local.c || local.c || local.c || local.c || local.c || local.c || local.c
  e = local.d || local.d || local.d || local.d || local.d || local.d || local.d || local.d
}

permit "p" {
  when = local.e
}
