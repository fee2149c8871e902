# A moderation team that the host names by labels of the actor. Trainees recall messages of the last hour only, and give
# a reason. Only the team, and not even an owner, recalls what a moderator wrote.

locals {
  moderator = contains(actor.labels, "moderator")
  trainee   = contains(actor.labels, "trainee")
}

forbid "of_moderators" {
  sender = false
  when   = contains(message.labels, "by_moderator") && !local.moderator
  code   = "by_moderator"
  text = {
    en        = "Only the moderation team can recall its messages."
    "zh-Hans" = "只有管理团队可以撤回其消息。"
  }
}

permit "own" {
  sender = true
}

permit "moderators" {
  conversation = ["group", "chatroom"]
  sender       = false
  when         = local.moderator && !local.trainee
  window       = "any"
}

permit "trainees" {
  conversation = ["group", "chatroom"]
  sender       = false
  when         = local.moderator && local.trainee
  window       = "1h"
  reason       = "required"
  text = {
    en        = "Trainees recall messages of the last hour, and give a reason. Ask a moderator for older ones."
    "zh-Hans" = "见习管理员只能撤回一小时内的消息，并需填写原因。更早的消息请联系管理员。"
  }
}
