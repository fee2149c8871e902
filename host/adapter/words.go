package adapter

import (
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/language"

	"github.com/chat-recall/recall/shared"
)

// Texts is a sentence by language tag: "en" and "zh-Hans", and those that a rule adds.
type Texts = map[string]string

var (
	recalled        = Texts{"en": "The message was recalled.", "zh-Hans": "消息已撤回。"}
	alreadyRecalled = Texts{"en": "The message had been recalled before.", "zh-Hans": "这条消息之前已被撤回。"}
	waits           = Texts{"en": "The message is recalled as soon as it arrives.", "zh-Hans": "消息一到达就会被撤回。"}
	permitted       = Texts{"en": "You can recall this message.", "zh-Hans": "你可以撤回这条消息。"}
	permittedUntil  = Texts{
		"en": "You can recall this message until {time} UTC.", "zh-Hans": "你可以在 {time}（UTC）之前撤回这条消息。",
	}
)

// Text returns the sentence for the user about an answer of Recall. Do not change the map.
func Text(r shared.RecallResult) Texts {
	switch {
	case len(r.Text) > 0: // of a refusal, by the plugin
		return r.Text
	case r.Status == shared.StatusRecalled:
		return recalled
	case r.Status == shared.StatusAlreadyRecalled:
		return alreadyRecalled
	case r.Status == shared.StatusWaiting:
		return waits
	}
	return shared.Words(r.Status, r.Code)
}

// CheckText returns the sentence for the user about an answer of Check. Do not change the map.
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

// In picks the text for the language of a reader, by a BCP 47 tag such as "zh-CN": the closest of the languages that
// there are, else English, else the first of the tags by the alphabet.
func In(tag string, texts Texts) string {
	tags := slices.Sorted(maps.Keys(texts))
	if len(tags) == 0 {
		return ""
	}
	if at := slices.Index(tags, "en"); at > 0 { // the first is that of who reads none of them
		tags = slices.Insert(slices.Delete(tags, at, at+1), 0, "en")
	}
	var known []language.Tag
	for _, t := range tags {
		known = append(known, language.Make(t))
	}
	_, at := language.MatchStrings(language.NewMatcher(known), tag)
	return texts[tags[at]]
}
