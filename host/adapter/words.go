package adapter

import (
	"maps"
	"strings"
	"time"

	"github.com/chat-recall/recall/shared"
)

// Texts is a sentence by language tag: "en" and "zh-Hans", and those that a rule adds.
type Texts = map[string]string

var (
	recalled        = Texts{"en": "The message was recalled.", "zh-Hans": "消息已撤回。"}
	alreadyRecalled = Texts{"en": "The message had been recalled before.", "zh-Hans": "这条消息之前已被撤回。"}
	permitted       = Texts{"en": "You can recall this message.", "zh-Hans": "你可以撤回这条消息。"}
	permittedUntil  = Texts{"en": "You can recall this message until {time} UTC.", "zh-Hans": "你可以在 {time}（UTC）之前撤回这条消息。"}
)

// Text is what a user is told about an answer of Recall.
func Text(r shared.RecallResult) Texts {
	switch {
	case len(r.Text) > 0: // of a refusal, by the plugin
		return r.Text
	case r.Status == shared.StatusRecalled:
		return recalled
	case r.Status == shared.StatusAlreadyRecalled:
		return alreadyRecalled
	}
	return shared.Words(r.Status, r.Code)
}

// CheckText is what a user is told about an answer of Check.
func CheckText(r shared.RecallResult) Texts {
	switch {
	case r.Status != shared.StatusRecalled:
		return Text(r)
	case r.Until.IsZero():
		return permitted
	}
	texts := maps.Clone(permittedUntil)
	for tag, text := range texts {
		texts[tag] = strings.ReplaceAll(text, "{time}", r.Until.UTC().Format(time.DateTime))
	}
	return texts
}

// In picks the text for a language tag such as "zh-CN" or "de": the text of that language and script, else of the
// language, else English. Chinese without a script is simplified but for Taiwan, Hong Kong and Macao, for which there
// is no text of their own either.
func In(tag string, texts Texts) string {
	if text, ok := texts[tag]; ok {
		return text
	}
	language, _, _ := strings.Cut(strings.ReplaceAll(strings.ToLower(tag), "_", "-"), "-")
	for _, known := range []string{language, map[string]string{"zh": "zh-Hans"}[language]} {
		if text, ok := texts[known]; ok {
			return text
		}
	}
	return texts["en"]
}
