package policy

import (
	"fmt"
	"strings"
)

// Vocabulary is a fixed set of words: the values of a field or an attribute.
type Vocabulary struct {
	Name  string // what one word is called in diagnostics
	Words []string
}

// The vocabularies of the contract.
var (
	ConversationTypes = &Vocabulary{"conversation type", []string{"single", "group", "chatroom"}}
	MessageTypes      = &Vocabulary{"message type", []string{
		"text", "image", "audio", "video", "file", "location", "custom", "combine", "command",
	}}
	Roles = &Vocabulary{"role", []string{"owner", "admin", "member", "system", RoleNone}}
)

// RoleNone is the role of an actor who is not in the conversation.
const RoleNone = "none"

// Set is a set of words of one vocabulary, with one bit for each in its order.
type Set uint16

// Bit returns the set that contains only word, or the empty set if the vocabulary does not have it.
func (v *Vocabulary) Bit(word string) Set {
	for i, w := range v.Words {
		if w == word {
			return 1 << i
		}
	}
	return 0
}

// Without returns the set of all words but word.
func (v *Vocabulary) Without(word string) Set {
	return (1<<len(v.Words) - 1) &^ v.Bit(word)
}

// Describe returns the words of s in the order of the vocabulary.
func (v *Vocabulary) Describe(s Set) []string {
	var out []string
	for i, w := range v.Words {
		if s&(1<<i) != 0 {
			out = append(out, w)
		}
	}
	return out
}

// QuotedList returns a list in the rule language, as in ["a", "b"].
func QuotedList(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = fmt.Sprintf("%q", w)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
