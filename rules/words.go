package rules

import (
	"fmt"
	"strings"
)

// vocabulary is the fixed set of words that a field or a scope may have.
type vocabulary struct {
	name  string // what one word is called in messages
	words []string
}

var (
	conversationWords = &vocabulary{"conversation type", []string{"single", "group", "chatroom"}}
	typeWords         = &vocabulary{"message type", []string{"text", "image", "audio", "video", "file", "location", "custom", "combine", "command"}}
	roleWords         = &vocabulary{"role", []string{"owner", "admin", "member", "system", roleNone}}
)

// roleNone is the role of an actor who is not in the conversation.
const roleNone = "none"

// set is a set of words of one vocabulary, a bit each in its order.
type set uint16

// bit returns the set of only word, and the empty set for a word that the vocabulary does not have.
func (v *vocabulary) bit(word string) set {
	for i, w := range v.words {
		if w == word {
			return 1 << i
		}
	}
	return 0
}

// without returns the set of all words but one.
func (v *vocabulary) without(word string) set {
	return (1<<len(v.words) - 1) &^ v.bit(word)
}

// describe returns the words of s in the vocabulary's order.
func (v *vocabulary) describe(s set) []string {
	var out []string
	for i, w := range v.words {
		if s&(1<<i) != 0 {
			out = append(out, w)
		}
	}
	return out
}

// quotedList is ["a", "b"].
func quotedList(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = fmt.Sprintf("%q", w)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
