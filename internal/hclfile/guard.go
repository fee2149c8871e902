package hclfile

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

const (
	// MaxDepth bounds nested brackets. HCL's parser recurses for each of them, and Go cannot recover from a stack
	// overflow, so the depth is counted on tokens before parsing.
	MaxDepth = 64
	// MaxOperators bounds the operators of one expression, for which the parser also recurses.
	MaxOperators = 256
	// maxDigits bounds a number: whole numbers fit into an int then, and HCL does not spend long on one.
	maxDigits = 18
)

// Language is the name of a kind of file, and the advice in its diagnostics.
type Language struct {
	Name    string                         // as in "x is not part of the rule language"
	Advice  map[hclsyntax.TokenType]string // what to write instead of a refused token
	Other   string                         // the advice for other tokens
	Smaller string                         // how to make an expression simpler
	Ended   string                         // more advice if an attribute does not end
	Suspect bool                           // warn about strings that look like other strings
}

// Parse returns the syntax tree of a file. If the file has errors it reports them and returns nil.
func (r *Reporter) Parse(f File, l *Language) *hclsyntax.Body {
	if len(f.Text) > MaxFileBytes {
		r.FileError(f.Name, "", TooLarge(int64(len(f.Text)), MaxFileBytes))
		return nil
	}
	if !r.encoding(f) || !r.guard(f, l) {
		return nil
	}
	file, diags := hclsyntax.ParseConfig(f.Text, f.Name, hcl.InitialPos)
	r.hcl(diags, l)
	if diags.HasErrors() {
		return nil
	}
	return file.Body.(*hclsyntax.Body)
}

// encoding refuses a file that is not UTF-8, with one diagnostic. Editors on other systems may save a file as UTF-16.
func (r *Reporter) encoding(f File) bool {
	if name := wide(f.Text); name != "" {
		r.Errorf(hcl.Range{Filename: f.Name}, "Convert it to UTF-8, for example with iconv -f "+name+" -t UTF-8.",
			"the file is %s", name)
		return false
	}
	pos := hcl.InitialPos
	for i := 0; i < len(f.Text); {
		char, size := utf8.DecodeRune(f.Text[i:])
		at := hcl.Range{Filename: f.Name, Start: pos, End: pos}
		at.End.Byte++
		switch {
		case char == utf8.RuneError && size <= 1:
			r.Errorf(at, "Save the file as UTF-8.", "the file is not valid UTF-8")
			return false
		case char == 0:
			r.Errorf(at, "Remove it.", "the file has a NUL byte")
			return false
		}
		i += size
		pos.Byte, pos.Column = i, pos.Column+1
		if char == '\n' {
			pos.Line, pos.Column = pos.Line+1, 1
		}
	}
	return true
}

// wide names an encoding with units of two or four bytes, with or without a byte order mark. It returns "" for other
// encodings. HCL syntax is ASCII, so in such a file many bytes are 0, most of them at even or at odd offsets.
func wide(text []byte) string {
	switch {
	case bytes.HasPrefix(text, []byte{0xff, 0xfe, 0, 0}), bytes.HasPrefix(text, []byte{0, 0, 0xfe, 0xff}):
		return "UTF-32"
	case bytes.HasPrefix(text, []byte{0xff, 0xfe}), bytes.HasPrefix(text, []byte{0xfe, 0xff}):
		return "UTF-16"
	}
	var zeros [2]int // at even and odd places
	for i, b := range text {
		if b == 0 {
			zeros[i%2]++
		}
	}
	// An eighth is enough, since strings may be in scripts without zero bytes.
	few, many := min(zeros[0], zeros[1]), max(zeros[0], zeros[1])
	switch {
	case many*8 < len(text) || many < 4:
		return ""
	case few > many/8:
		return "UTF-32"
	case zeros[1] > zeros[0]:
		return "UTF-16LE"
	}
	return "UTF-16BE"
}

// guard refuses input that would harm the parser, tokens that these files do not use, and strings that HCL would
// change.
func (r *Reporter) guard(f File, l *Language) bool {
	tokens, _ := hclsyntax.LexConfig(f.Text, f.Name, hcl.InitialPos) // the parser reports what the lexer found
	operators := 0
	var attribute []byte           // name of the last attribute, for errors in its value
	var open []hclsyntax.TokenType // closing brackets of the open brackets
	for i, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen:
			if open = append(open, closing[t.Type]); len(open) > MaxDepth {
				r.Errorf(t.Range, l.Smaller, "brackets are nested more than %d deep", MaxDepth)
				return false
			}
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen:
			// A stray closing bracket would hide the depth of the parser.
			if len(open) == 0 || open[len(open)-1] != t.Type {
				r.Errorf(t.Range, "", "%q does not match an open bracket", t.Bytes)
				return false
			}
			open = open[:len(open)-1]
		case hclsyntax.TokenEqual:
			operators = 0
			if attribute = nil; i > 0 && tokens[i-1].Type == hclsyntax.TokenIdent {
				attribute = tokens[i-1].Bytes
			}
		case hclsyntax.TokenAnd, hclsyntax.TokenOr, hclsyntax.TokenBang, hclsyntax.TokenEqualOp, hclsyntax.TokenNotEqual,
			hclsyntax.TokenLessThan, hclsyntax.TokenLessThanEq, hclsyntax.TokenGreaterThan, hclsyntax.TokenGreaterThanEq:
			if operators++; operators > MaxOperators {
				r.Errorf(t.Range, l.Smaller, "the expression has more than %d operators", MaxOperators)
				return false
			}
		case hclsyntax.TokenNumberLit:
			switch {
			case bytes.ContainsAny(t.Bytes, "eE"):
				r.Errorf(t.Range, fmt.Sprintf("Write its digits, at most %d.", maxDigits), "the number %.*s%s has an exponent",
					maxDigits, t.Bytes, of(attribute))
				return false
			case len(t.Bytes) > maxDigits:
				r.Errorf(t.Range, "", "the number%s has %d digits; at most %d", of(attribute), len(t.Bytes), maxDigits)
				return false
			}
		default:
			if refused[t.Type] {
				if isNegative(tokens, i) {
					next := tokens[i+1]
					r.Errorf(hcl.RangeBetween(t.Range, next.Range), "", "the number -%.*s%s is negative; a number is at least 0",
						maxDigits, next.Bytes, of(attribute))
					return false
				}
				advice, ok := l.Advice[t.Type]
				if !ok {
					advice = l.Other
				}
				r.Errorf(t.Range, advice, "%q is not part of %s", t.Bytes, l.Name)
				return false
			}
		}
	}
	return r.texts(tokens, l)
}

// of names the attribute of a value; "" if it is not known.
func of(attribute []byte) string {
	if attribute == nil {
		return ""
	}
	return fmt.Sprintf(" of %q", attribute)
}

// isNegative reports whether tokens[i] is the sign of a number that is the value of an attribute.
func isNegative(tokens hclsyntax.Tokens, i int) bool {
	return tokens[i].Type == hclsyntax.TokenMinus && i > 0 && tokens[i-1].Type == hclsyntax.TokenEqual &&
		i+1 < len(tokens) && tokens[i+1].Type == hclsyntax.TokenNumberLit
}

// closing is the closing bracket of each opening bracket.
var closing = map[hclsyntax.TokenType]hclsyntax.TokenType{
	hclsyntax.TokenOBrace: hclsyntax.TokenCBrace, hclsyntax.TokenOBrack: hclsyntax.TokenCBrack,
	hclsyntax.TokenOParen: hclsyntax.TokenCParen,
}

// refused are the parts of HCL that no file uses.
var refused = map[hclsyntax.TokenType]bool{
	hclsyntax.TokenQuestion: true, hclsyntax.TokenColon: true, hclsyntax.TokenTemplateInterp: true,
	hclsyntax.TokenTemplateControl: true, hclsyntax.TokenOHeredoc: true, hclsyntax.TokenStar: true,
	hclsyntax.TokenSlash: true, hclsyntax.TokenPlus: true, hclsyntax.TokenMinus: true, hclsyntax.TokenPercent: true,
	hclsyntax.TokenDoubleColon: true, hclsyntax.TokenEllipsis: true, hclsyntax.TokenFatArrow: true,
	hclsyntax.TokenBitwiseAnd: true, hclsyntax.TokenBitwiseOr: true, hclsyntax.TokenBitwiseNot: true,
	hclsyntax.TokenBitwiseXor: true, hclsyntax.TokenStarStar: true, hclsyntax.TokenApostrophe: true,
	hclsyntax.TokenBacktick: true, hclsyntax.TokenSemicolon: true, hclsyntax.TokenInvalid: true,
}
