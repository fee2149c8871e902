locals {
  managers = ["owner", "admim"]
  late     = message.age > "two minutes"
  loop     = local.loop || actor.is_sender
  a        = local.b
  b        = local.a
  unused   = mesage.type == "text"
}

forbid "typo_right" {
  when = message.type == "file" || conversation.hold
}

forbid "typo_left" {
  when = mesage.type == "file" && conversation.type == "group"
}

forbid "typo_both" {
  when = (message.typ == "file") || !(actor.rol == "owner")
}

forbid "wrong_word" {
  when = actor.role == "admim"
}

forbid "number" {
  when = actor.role == 5
}

forbid "two_fields" {
  when = message.age <= message.type
}

forbid "ids" {
  when = message.sender == actor.id
}

forbid "duration" {
  when = message.age < "5 min" && message.age > 300
}

forbid "time" {
  when = message.sent_at < "yesterday"
}

forbid "no_field" {
  when = "a" == "b"
}

forbid "constant" {
  when = true
}

forbid "text_order" {
  when = message.id > "m5"
}

forbid "list" {
  when = message.labels == "secret"
}

forbid "list_needed" {
  when = contains(actor.id, "bot") || contains("group", conversation.type) || contains(["x"], "x")
}

forbid "words_in_list" {
  when = contains(["owner", "admim", 5], actor.role) && contains(local.managers, actor.role)
}

forbid "not_a_condition" {
  when = message.type
}

forbid "compared_condition" {
  when = actor.is_sender == (message.type == "txt")
}

forbid "functions" {
  when = contain(conversation.labels, "hold") || startswith(actor.role, "own") || startswith(actor.id) || endswith(actor.id, "")
}

forbid "locals" {
  when = local.managerz || local.managers == "owner" || local.late || local.a
}

forbid "bare" {
  when = is_sender && role == "owner"
}

forbid "index" {
  when = message.labels[0] == "x" || message["type"] == "text"
}

forbid "flag" {
  when = actor.is_sender == "yes"
}

forbid "null" {
  when = actor.id == null
}
