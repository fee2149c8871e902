package rules

import "strings"

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

// advice is the help for a word that is none: the nearest one, and all there are.
func (v *vocabulary) advice(word string) string {
	return didYouMean(word, v.words) + "A " + v.name + " is one of " + quoteAll(v.words) + "."
}

// didYouMean names the candidate nearest to word in a sentence with a space after it, or is empty when none is near.
func didYouMean(word string, candidates []string) string {
	near := nearest(word, candidates)
	if near == "" {
		return ""
	}
	return "Did you mean \"" + near + "\"? "
}

// nearest returns the candidate that word is probably a misspelling of, or "".
func nearest(word string, candidates []string) string {
	near, distance := "", (len([]rune(word))+1)/3+1
	for _, c := range candidates {
		if d := editDistance(strings.ToLower(word), c); d < distance {
			near, distance = c, d
		}
	}
	return near
}

// editDistance counts the insertions, deletions and replacements that make b of a. Words over 64 characters are
// nobody's misspelling and count as far away.
func editDistance(a, b string) int {
	from, to := []rune(a), []rune(b)
	if len(from) > 64 || len(to) > 64 {
		return 64
	}
	row := make([]int, len(to)+1)
	for j := range row {
		row[j] = j
	}
	for i, r := range from {
		diagonal := row[0]
		row[0] = i + 1
		for j, s := range to {
			cost := diagonal
			if r != s {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(to)]
}

// quoteAll joins words as "a", "b" or "c".
func quoteAll(words []string) string {
	var b strings.Builder
	for i, w := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			b.WriteString(" or ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(`"` + w + `"`)
	}
	return b.String()
}
