package hclfile

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"golang.org/x/text/unicode/norm"
)

// Text returns the text of a quoted literal. There are no templates: the guard refuses them.
func Text(e hclsyntax.Expression) (string, bool) {
	t, ok := e.(*hclsyntax.TemplateExpr)
	if !ok {
		return "", false
	}
	var text string
	for _, part := range t.Parts {
		v, ok := part.(*hclsyntax.LiteralValueExpr)
		if !ok || v.Val.Type() != cty.String {
			return "", false
		}
		text += v.Val.AsString()
	}
	return text, true
}

// Flag returns the value of true or false.
func Flag(e hclsyntax.Expression) (value, ok bool) {
	l, ok := e.(*hclsyntax.LiteralValueExpr)
	if !ok || l.Val.IsNull() || l.Val.Type() != cty.Bool {
		return false, false
	}
	return l.Val.True(), true
}

// IsNull tells whether an expression is null.
func IsNull(e hclsyntax.Expression) bool {
	l, ok := e.(*hclsyntax.LiteralValueExpr)
	return ok && l.Val.IsNull()
}

// texts checks every text between quotes, whatever it is for: a value, a label or the name of a key. HCL hands texts
// out in Unicode NFC, so one that is written otherwise would silently stand for other bytes.
func (r *Reporter) texts(tokens hclsyntax.Tokens, l *Language) (good bool) {
	good = true
	var text strings.Builder
	var at hcl.Range
	scripts := scripts{}
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOQuote:
			text.Reset()
			at = t.Range
		case hclsyntax.TokenQuotedLit:
			part, _ := hclsyntax.ParseStringLiteralToken(t) // the parser reports what is wrong with it
			text.WriteString(part)
		case hclsyntax.TokenCQuote:
			at.End = t.Range.End
			good = r.normal(at, text.String()) && good
			if l.Suspect {
				r.suspect(at, text.String(), scripts)
			}
		}
	}
	return good
}

// normal refuses a text that Unicode normalisation changes.
func (r *Reporter) normal(at hcl.Range, text string) bool {
	if norm.NFC.IsNormalString(text) {
		return true
	}
	var changes []string
	for rest := text; rest != "" && len(changes) < 3; {
		n := norm.NFC.NextBoundaryInString(rest, true)
		if is := norm.NFC.String(rest[:n]); is != rest[:n] {
			changes = append(changes, codePoints(rest[:n])+" becomes "+codePoints(is))
		}
		rest = rest[n:]
	}
	r.Errorf(at, "HCL takes texts in Unicode NFC, so this one would stand for other bytes than it has. Write it in NFC, "+
		"and use NFC wherever it comes from.", "Unicode normalisation changes this text: %s", strings.Join(changes, ", "))
	return false
}

// maxCodePoints bounds the code points that are shown.
const maxCodePoints = 8

// codePoints is U+0065 U+0301 of é.
func codePoints(s string) string {
	var out []string
	for _, c := range s {
		if len(out) == maxCodePoints {
			out = append(out, "…")
			break
		}
		out = append(out, fmt.Sprintf("%U", c))
	}
	return strings.Join(out, " ")
}

// suspect warns of texts that look like others: what a person sees is not what is compared.
func (r *Reporter) suspect(at hcl.Range, text string, known scripts) {
	if r.Full() {
		return
	}
	if text != strings.TrimSpace(text) {
		r.Warnf(at, "Blanks count. Remove them, unless they are meant.", "the text begins or ends with a blank")
	}
	var hidden []string
	for _, c := range text {
		if zeroWidth(c) && !slices.Contains(hidden, fmt.Sprintf("%U", c)) {
			hidden = append(hidden, fmt.Sprintf("%U", c))
		}
	}
	if len(hidden) > 0 {
		r.Warnf(at, "They count. Remove them, unless they are meant.", "the text has characters that nobody sees: %s",
			strings.Join(hidden[:min(len(hidden), maxCodePoints)], ", "))
	}
	between := func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsMark(c) && !unicode.IsDigit(c) }
	for _, word := range strings.FieldsFunc(text, between) {
		if mix := known.mix(word); mix != "" {
			r.Warnf(at, "Letters of two scripts can look the same. Write the word in one.", "a word of the text mixes %s", mix)
			return
		}
	}
}

// zeroWidth tells whether a character takes no room: format characters but for the few that are shown, and fillers.
func zeroWidth(c rune) bool {
	switch c {
	case '\u034f', '\u115f', '\u1160', '\u17b4', '\u17b5', '\u3164', '\uffa0':
		return true
	}
	return unicode.Is(unicode.Cf, c) && !unicode.Is(unicode.Prepended_Concatenation_Mark, c)
}

// scripts remembers the script of each letter seen.
type scripts map[rune]string

// mixable are the scripts that one word may mix, as in Unicode's "highly restrictive" identifiers (UTS 39): Chinese,
// Japanese and Korean are written so, with Latin letters among them.
var mixable = [][]string{
	{"Latin", "Han", "Hiragana", "Katakana"},
	{"Latin", "Han", "Bopomofo"},
	{"Latin", "Han", "Hangul"},
}

// mix names the scripts of a word, each with its first letter, if they do not belong together.
func (s scripts) mix(word string) string {
	var names, shown []string
	for _, c := range word {
		name, ok := s[c]
		if !ok {
			name = scriptOf(c)
			s[c] = name
		}
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
			shown = append(shown, fmt.Sprintf("%s (%U)", name, c))
		}
	}
	fits := func(set []string) bool {
		return !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(set, name) })
	}
	if len(names) < 2 || slices.ContainsFunc(mixable, fits) {
		return ""
	}
	return strings.Join(shown, " and ")
}

// scriptOf names the script of a letter. It is empty for what all scripts share.
func scriptOf(c rune) string {
	if c < 0x80 {
		if unicode.IsLetter(c) {
			return "Latin"
		}
		return ""
	}
	if !unicode.IsLetter(c) || unicode.Is(unicode.Common, c) || unicode.Is(unicode.Inherited, c) {
		return ""
	}
	for name, table := range unicode.Scripts {
		if unicode.Is(table, c) {
			return name
		}
	}
	return ""
}
