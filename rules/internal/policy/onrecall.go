package policy

import (
	"slices"
	"strings"
	"time"
)

// Dispositions: what the host does with the content of a recalled message.
const (
	DispositionErase   = "erase"   // nothing of it is left
	DispositionArchive = "archive" // kept for Retention where only compliance can read it
)

// CascadeKinds are the kinds of relation by which a recall can recall other messages. Edits are always recalled.
var CascadeKinds = []string{"quote", "forward", "reply", "thread"}

// DefaultCascade applies where a file does not say otherwise: a forwarded message is a copy.
var DefaultCascade = []string{"forward"}

// OnRecall is what a permitted recall asks of the host. It belongs to the policy: do not modify it.
type OnRecall struct {
	Steps       []string      // names of the steps to run, in no particular order; nil: every step that the host has
	Silent      bool          // clients remove the message and show nothing in its place
	Placeholder *Placeholder  // what clients show instead; nil: the host's own words
	Cascade     []string      // kinds of relation by which other messages are recalled too, besides edits; sorted
	Disposition string        // DispositionErase or DispositionArchive
	Retention   time.Duration // how long the archive keeps it; 0 unless archived
}

// EraseEverywhere applies where no on_recall block says otherwise.
var EraseEverywhere = &OnRecall{Disposition: DispositionErase, Cascade: DefaultCascade}

// Placeholder is the text that clients show instead of a recalled message, by language.
type Placeholder struct {
	Name  string
	Texts map[string]string // language tag, as in "en" or "zh-Hans", to a text with {fields} of PlaceholderFields
}

// PlaceholderFields are the fields that the text of a placeholder can contain in curly brackets. The host fills them
// in. docs/rules.md is generated from it.
var PlaceholderFields = []struct{ Name, About string }{
	{"actor", "the name of the user who recalled the message, as the host shows it"},
	{"sender", "the name of the sender, as the host shows it"},
	{"role", "the role of the user who recalled it, as the host gave it"},
	{"type", "the type of the message"},
	{"reason", "the reason of the recall"},
}

// Text returns the text for a language tag. If there is none, it returns the text for the first part of the tag (zh for
// zh-Hans), else the English one, else the one whose tag comes first in alphabetical order.
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
