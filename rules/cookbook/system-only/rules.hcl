# Users take nothing back. Only the server does, on the word of a moderation tool that names itself in ext.

permit "moderation_tool" {
  role   = ["system"]
  when   = startswith(request.ext, "moderation:")
  window = "any"
  reason = "required"
  on_recall {
    silent      = true
    disposition = "archive"
    retention   = "90d"
  }
}
