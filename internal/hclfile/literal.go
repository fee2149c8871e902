package hclfile

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"unicode"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"golang.org/x/text/unicode/norm"
)

// Text returns the value of a quoted string. The guard refuses templates.
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

// Flag returns the value of a boolean literal.
func Flag(e hclsyntax.Expression) (value, ok bool) {
	l, ok := e.(*hclsyntax.LiteralValueExpr)
	if !ok || l.Val.IsNull() || l.Val.Type() != cty.Bool {
		return false, false
	}
	return l.Val.True(), true
}

// Number returns the value of a number literal that is whole. The guard refuses what an int does not hold.
func Number(e hclsyntax.Expression) (value int, ok bool) {
	l, ok := e.(*hclsyntax.LiteralValueExpr)
	if !ok || l.Val.IsNull() || l.Val.Type() != cty.Number {
		return 0, false
	}
	whole, accuracy := l.Val.AsBigFloat().Int64()
	return int(whole), accuracy == big.Exact
}

// IsNull reports whether an expression is null.
func IsNull(e hclsyntax.Expression) bool {
	l, ok := e.(*hclsyntax.LiteralValueExpr)
	return ok && l.Val.IsNull()
}

// texts checks every quoted string: values, labels and keys. HCL normalizes strings to Unicode NFC, so a string that is
// not in NFC would silently stand for other bytes.
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

// normal refuses a string that Unicode normalization changes.
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
	r.Errorf(at, "HCL normalizes strings to Unicode NFC, so this one would stand for other bytes. Write it in NFC, "+
		"and use NFC where the value comes from.", "Unicode normalization changes this string: %s", strings.Join(changes,
		", "))
	return false
}

// maxCodePoints bounds the code points in one diagnostic.
const maxCodePoints = 8

// codePoints returns the code points of s, as in U+0065 U+0301.
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

// suspect warns about strings that look like other strings.
func (r *Reporter) suspect(at hcl.Range, text string, known scripts) {
	if r.Full() {
		return
	}
	if text != strings.TrimSpace(text) {
		r.Warnf(at, "Spaces are compared too. Remove them, unless they are intended.",
			"the string starts or ends with a space")
	}
	var hidden []string
	for _, c := range text {
		if zeroWidth(c) && !slices.Contains(hidden, fmt.Sprintf("%U", c)) {
			hidden = append(hidden, fmt.Sprintf("%U", c))
		}
	}
	if len(hidden) > 0 {
		r.Warnf(at, "They are compared too. Remove them, unless they are intended.",
			"the string contains invisible characters: %s",
			strings.Join(hidden[:min(len(hidden), maxCodePoints)], ", "))
	}
	between := func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsMark(c) && !unicode.IsDigit(c) }
	for _, word := range strings.FieldsFunc(text, between) {
		if mix := known.mix(word); mix != "" {
			r.Warnf(at, "Letters of different scripts can look the same. Use one script in a word.",
				"a word of the string mixes %s", mix)
			return
		}
	}
}

// zeroWidth reports whether a character is invisible: format characters, except for the few that are shown, and
// fillers.
func zeroWidth(c rune) bool {
	switch c {
	case '\u034f', '\u115f', '\u1160', '\u17b4', '\u17b5', '\u3164', '\uffa0':
		return true
	}
	return unicode.Is(unicode.Cf, c) && !unicode.Is(unicode.Prepended_Concatenation_Mark, c)
}

// scripts caches the script of each letter.
type scripts map[rune]string

// mixable are the scripts that one word may mix, from the "highly restrictive" level of Unicode (UTS 39). Chinese,
// Japanese and Korean use several scripts, with Latin letters among them.
var mixable = [][]string{
	{"Latin", "Han", "Hiragana", "Katakana"},
	{"Latin", "Han", "Bopomofo"},
	{"Latin", "Han", "Hangul"},
}

// mix names the scripts of a word, each with its first letter, if one word may not mix them.
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

// scriptOf names the script of a letter. It returns "" for characters that all scripts share.
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
