# Users cannot recall anything. Only the server can, for a moderation tool that identifies itself in ext.

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
