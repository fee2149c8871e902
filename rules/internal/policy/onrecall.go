package policy

import (
	"slices"
	"strings"
	"time"
)

// What the host does with the content of a recalled message.
const (
	DispositionErase   = "erase"   // it is gone
	DispositionArchive = "archive" // the host keeps it where only compliance reads it, for the retention
)

// OnRecall is what a permit asks of the host beside taking the message back. It belongs to the policy: do not change
// it.
type OnRecall struct {
	Steps       []string      // the steps to run, in no order; nil: every step that the host has
	Silent      bool          // clients remove the message and show nothing in its place
	Placeholder *Placeholder  // what clients show in its place; nil: the host's own words
	Disposition string        // DispositionErase or DispositionArchive
	Retention   time.Duration // how long an archive keeps it; 0 unless archived
}

// EraseEverywhere is what happens where no on_recall says otherwise.
var EraseEverywhere = &OnRecall{Disposition: DispositionErase}

// Placeholder is the text that stands where a recalled message was, by language.
type Placeholder struct {
	Name  string
	Texts map[string]string // language tag, as in "en" or "zh-Hans", to a text with {fields} of PlaceholderFields
}

// PlaceholderFields are the names that may stand in curly brackets in the text of a placeholder; the host puts in what
// its users are shown. The reference for operators is made from it.
var PlaceholderFields = []struct{ Name, About string }{
	{"actor", "who took the message back, as the host shows the name"},
	{"sender", "who sent it, as the host shows the name"},
	{"role", "the role of who took it back, as the host gave it"},
	{"type", "the type of the message"},
	{"reason", "the reason that was given"},
}

// Text returns the text for a language: of the tag itself, of its first part, of English, or the first there is by
// name of the language.
func (t *Placeholder) Text(language string) string {
	base, _, _ := strings.Cut(language, "-")
	for _, tag := range []string{language, base, "en"} {
		if text, ok := t.Texts[tag]; ok {
			return text
		}
	}
	tags := make([]string, 0, len(t.Texts))
	for tag := range t.Texts {
		tags = append(tags, tag)
	}
	return t.Texts[slices.Min(tags)]
}
