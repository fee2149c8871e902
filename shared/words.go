package shared

// words are the standard texts of refusals, by code or status and by language tag.
var words = map[string]map[string]string{
	string(CodeForbidden): {
		"en":      "You can't recall this message.",
		"zh-Hans": "你不能撤回这条消息。",
	},
	string(CodeWindowExpired): {
		"en":      "This message is too old to recall.",
		"zh-Hans": "这条消息已超过可撤回的时间。",
	},
	string(CodeTypeNotRecallable): {
		"en":      "Messages of this kind can't be recalled.",
		"zh-Hans": "这类消息不能撤回。",
	},
	string(CodeReasonRequired): {
		"en":      "Give a reason to recall this message.",
		"zh-Hans": "撤回这条消息需要填写原因。",
	},
	string(CodeRateLimited): {
		"en":      "You have recalled too many messages. Try again later.",
		"zh-Hans": "撤回过于频繁，请稍后再试。",
	},
	string(CodeRecallIDUsed): {
		"en":      "The message was not recalled. Try again.",
		"zh-Hans": "撤回失败，请重试。",
	},
	string(StatusNotFound): {
		"en":      "This message does not exist any more.",
		"zh-Hans": "这条消息已不存在。",
	},
	string(StatusAborted): {
		"en":      "Nothing was recalled, because another message of the selection can't be recalled.",
		"zh-Hans": "所选消息中有不能撤回的消息，未撤回任何消息。",
	},
}

// Words returns the standard texts for a refusal by language tag: English ("en") and simplified Chinese ("zh-Hans").
// For a code that is not a standard one it returns the texts of CodeForbidden. For a result that is not a refusal it
// returns nil. Do not change the map.
func Words(status RecallStatus, code Code) map[string]string {
	switch status {
	case StatusNotFound, StatusAborted:
		return words[string(status)]
	case StatusDenied:
		if texts := words[string(code)]; texts != nil {
			return texts
		}
		return words[string(CodeForbidden)]
	}
	return nil
}
