package lang

import (
	"strings"

	"github.com/chat-recall/recall/rules/internal/policy"
)

// WordAdvice returns the advice for an unknown word: the most similar word, and all words.
func WordAdvice(v *policy.Vocabulary, word string) string {
	return DidYouMean(word, v.Words) + "A " + v.Name + " is one of " + quoteAll(v.Words) + "."
}

// DidYouMean returns the sentence that suggests the candidate most similar to word, with a trailing space. It is empty
// if none is similar.
func DidYouMean(word string, candidates []string) string {
	near := Nearest(word, candidates)
	if near == "" {
		return ""
	}
	return "Did you mean \"" + near + "\"? "
}

// Nearest returns the candidate of which word is probably a misspelling, or "".
func Nearest(word string, candidates []string) string {
	near, distance := "", (len([]rune(word))+1)/3+1
	for _, c := range candidates {
		if d := editDistance(strings.ToLower(word), c); d < distance {
			near, distance = c, d
		}
	}
	return near
}

// editDistance returns the number of insertions, deletions and replacements that turn a into b. It returns 64 for words
// longer than 64 characters, which are no misspellings.
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

// fieldAdvice returns the advice for an unknown field: the most similar field, and what there is.
func fieldAdvice(name string) string {
	root, rest, _ := strings.Cut(name, ".")
	var roots, here []string
	for _, f := range policy.Fields {
		fieldRoot, attribute, dotted := strings.Cut(f.Name, ".")
		if len(roots) == 0 || roots[len(roots)-1] != fieldRoot {
			roots = append(roots, fieldRoot)
		}
		if dotted && fieldRoot == root {
			here = append(here, attribute)
		}
	}
	if here != nil {
		advice := "There are " + root + "." + strings.Join(here, ", "+root+".") + "."
		if near := Nearest(rest, here); near != "" {
			advice = "Did you mean " + root + "." + near + "? " + advice
		}
		return advice
	}
	near := Nearest(root, roots)
	switch {
	case near != "" && rest != "" && policy.FieldNamed(near+"."+rest) != nil:
		return "Did you mean " + near + "." + rest + "?"
	case near != "":
		return "Did you mean " + near + "? Fields begin with " + strings.Join(roots, ", ") + "."
	}
	for _, f := range policy.Fields {
		if _, attribute, _ := strings.Cut(f.Name, "."); attribute == name {
			return "Did you mean " + f.Name + "?"
		}
	}
	return "Fields begin with " + strings.Join(roots, ", ") + "; a string is written between quotes."
}
