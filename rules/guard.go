package rules

import (
	"bytes"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

const (
	// maxDepth bounds brackets within brackets. HCL's parser calls itself for each, and Go cannot recover from a
	// stack that overflows, so depth is counted on the tokens before anything is parsed.
	maxDepth = 64
	// maxOperators bounds the operators of one expression, for which the parser also calls itself.
	maxOperators = 256
	// maxNumberBytes bounds a number: 1e999999999 is short and takes for ever.
	maxNumberBytes = 20
)

// parse turns one source into HCL's syntax tree, or reports why it cannot and returns nil.
func (r *reporter) parse(s File) *hclsyntax.Body {
	if !r.guard(s) {
		return nil
	}
	file, diags := hclsyntax.ParseConfig(s.Text, s.Name, hcl.InitialPos)
	r.hcl(diags)
	if diags.HasErrors() {
		return nil
	}
	return file.Body.(*hclsyntax.Body)
}

// guard refuses what would harm the parser, and every token that the rule language has no use for.
func (r *reporter) guard(s File) bool {
	if !utf8.Valid(s.Text) {
		r.errorf(invalidUTF8(s), "Save the file as UTF-8.", "the file is not valid UTF-8")
		return false
	}
	tokens, _ := hclsyntax.LexConfig(s.Text, s.Name, hcl.InitialPos) // the parser reports what the lexer found
	operators := 0
	var open []hclsyntax.TokenType // the brackets that are open, by what closes them
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen:
			if open = append(open, closing[t.Type]); len(open) > maxDepth {
				r.errorf(t.Range, "Give parts of it names in a locals block.", "brackets are nested deeper than %d", maxDepth)
				return false
			}
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen:
			// One that closes nothing would hide how deep the parser is.
			if len(open) == 0 || open[len(open)-1] != t.Type {
				r.errorf(t.Range, "", "%q closes no bracket that is open here", t.Bytes)
				return false
			}
			open = open[:len(open)-1]
		case hclsyntax.TokenEqual:
			operators = 0
		case hclsyntax.TokenAnd, hclsyntax.TokenOr, hclsyntax.TokenBang, hclsyntax.TokenEqualOp, hclsyntax.TokenNotEqual,
			hclsyntax.TokenLessThan, hclsyntax.TokenLessThanEq, hclsyntax.TokenGreaterThan, hclsyntax.TokenGreaterThanEq:
			if operators++; operators > maxOperators {
				r.errorf(t.Range, "Give parts of it names in a locals block, or use contains with a list.",
					"the expression has more than %d operators", maxOperators)
				return false
			}
		case hclsyntax.TokenNumberLit:
			if len(t.Bytes) > maxNumberBytes || bytes.ContainsAny(t.Bytes, "eE") {
				r.errorf(t.Range, "", "the number is too large")
				return false
			}
		default:
			if advice, refused := refusedTokens[t.Type]; refused {
				r.errorf(t.Range, advice, "%q is not part of the rule language", t.Bytes)
				return false
			}
		}
	}
	return true
}

// closing is what closes each bracket.
var closing = map[hclsyntax.TokenType]hclsyntax.TokenType{
	hclsyntax.TokenOBrace: hclsyntax.TokenCBrace, hclsyntax.TokenOBrack: hclsyntax.TokenCBrack,
	hclsyntax.TokenOParen: hclsyntax.TokenCParen,
}

// refusedTokens are the parts of HCL that rules do not have, with what to write instead.
var refusedTokens = map[hclsyntax.TokenType]string{
	hclsyntax.TokenQuestion:        "Write the condition with && and ||.",
	hclsyntax.TokenColon:           "There is no ?: and no for; what has a key is written key = value.",
	hclsyntax.TokenTemplateInterp:  "A text is taken as it is; write $${ for the characters ${.",
	hclsyntax.TokenTemplateControl: "A text is taken as it is; write %%{ for the characters %{.",
	hclsyntax.TokenOHeredoc:        "Write the text between quotes.",
	hclsyntax.TokenStar:            "Rules do not calculate.",
	hclsyntax.TokenSlash:           "Rules do not calculate.",
	hclsyntax.TokenPlus:            "Rules do not calculate.",
	hclsyntax.TokenMinus:           "Rules do not calculate, and no duration is negative.",
	hclsyntax.TokenPercent:         "Rules do not calculate.",
	hclsyntax.TokenDoubleColon:     "",
	hclsyntax.TokenEllipsis:        "",
	hclsyntax.TokenFatArrow:        "",
	hclsyntax.TokenBitwiseAnd:      "Write && for \"and\".",
	hclsyntax.TokenBitwiseOr:       "Write || for \"or\".",
	hclsyntax.TokenBitwiseNot:      "Write ! for \"not\".",
	hclsyntax.TokenBitwiseXor:      "",
	hclsyntax.TokenStarStar:        "",
	hclsyntax.TokenApostrophe:      "Write texts between double quotes.",
	hclsyntax.TokenBacktick:        "Write texts between double quotes.",
	hclsyntax.TokenSemicolon:       "A new line ends an attribute.",
	hclsyntax.TokenInvalid:         "",
}

// invalidUTF8 is the place of the first byte that is no UTF-8.
func invalidUTF8(s File) hcl.Range {
	pos := hcl.InitialPos
	for i := 0; i < len(s.Text); {
		char, size := utf8.DecodeRune(s.Text[i:])
		if char == utf8.RuneError && size <= 1 {
			break
		}
		i += size
		pos.Byte, pos.Column = i, pos.Column+1
		if char == '\n' {
			pos.Line, pos.Column = pos.Line+1, 1
		}
	}
	end := pos
	end.Byte++
	return hcl.Range{Filename: s.Name, Start: pos, End: end}
}
