package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/shared"
)

const (
	// maxFileBytes is far above what anybody writes here.
	maxFileBytes = 256 << 10
	// maxDepth bounds brackets within brackets. HCL's parser calls itself for each, and Go cannot recover from a
	// stack that overflows.
	maxDepth = 16
	// maxNumberBytes bounds a number: HCL computes all digits of 1e999999999.
	maxNumberBytes = 20
	// maxSourceBytes bounds the line that a diagnostic shows.
	maxSourceBytes = 160
	// maxDiagnostics bounds what is reported: nobody reads a thousand mistakes.
	maxDiagnostics = 50
)

// readFile reads a regular file of at most maxFileBytes. It opens without blocking, so that a named pipe is refused
// and not waited for.
func readFile(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			return nil, path.Err
		}
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	src, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	return src, nil
}

// reporter gathers what is wrong with one file.
type reporter struct {
	file  string
	src   []byte
	found shared.Diagnostics
}

func (r *reporter) errorf(at hcl.Range, detail, format string, args ...any) {
	if len(r.found) == maxDiagnostics {
		return
	}
	d := shared.Diagnostic{
		Severity: shared.SeverityError, Summary: fmt.Sprintf(format, args...), Detail: detail, File: r.file,
	}
	if at.Start.Line > 0 {
		d.Line, d.Column, d.Source = at.Start.Line, at.Start.Column, r.line(at.Start.Byte)
	}
	r.found = append(r.found, d)
}

// sorted is what was found in the order of the lines; HCL hands out attributes in no order.
func (r *reporter) sorted() shared.Diagnostics {
	slices.SortStableFunc(r.found, func(a, b shared.Diagnostic) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Summary, b.Summary))
	})
	return r.found
}

// line is the line of the file that holds the byte at pos, cut around it where it is long.
func (r *reporter) line(pos int) string {
	pos = min(pos, len(r.src))
	from := bytes.LastIndexByte(r.src[:pos], '\n') + 1
	to := len(r.src)
	if n := bytes.IndexByte(r.src[pos:], '\n'); n >= 0 {
		to = pos + n
	}
	if to-from > maxSourceBytes {
		from = max(from, pos-maxSourceBytes/2)
		to = min(to, from+maxSourceBytes)
	}
	return strings.TrimRight(strings.ToValidUTF8(string(r.src[from:to]), ""), "\r")
}

// parse returns the syntax tree, or reports why there is none and returns nil.
func (r *reporter) parse() *hclsyntax.Body {
	if len(r.src) > maxFileBytes {
		r.errorf(hcl.Range{}, "", "has more than %d KiB", maxFileBytes>>10)
		return nil
	}
	if !utf8.Valid(r.src) {
		r.errorf(hcl.Range{}, "save it as UTF-8", "is not valid UTF-8")
		return nil
	}
	if !r.guard() {
		return nil
	}
	file, diags := hclsyntax.ParseConfig(r.src, r.file, hcl.InitialPos)
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		at := hcl.Range{}
		if d.Subject != nil {
			at = *d.Subject
		}
		r.errorf(at, d.Detail, "%s", strings.TrimSuffix(d.Summary, "."))
	}
	if diags.HasErrors() {
		return nil
	}
	return file.Body.(*hclsyntax.Body)
}

// guard looks at the tokens before anything is parsed. The file is blocks, attributes, texts, numbers and lists: the
// rest of HCL has no use here and can harm the parser.
func (r *reporter) guard() bool {
	tokens, _ := hclsyntax.LexConfig(r.src, r.file, hcl.InitialPos) // the parser reports what the lexer found
	depth := 0
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack:
			if depth++; depth > maxDepth {
				r.errorf(t.Range, "", "brackets are nested deeper than %d", maxDepth)
				return false
			}
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack:
			if depth--; depth < 0 { // it would hide how deep the parser is
				r.errorf(t.Range, "", "%q closes no bracket that is open here", t.Bytes)
				return false
			}
		case hclsyntax.TokenNumberLit:
			if len(t.Bytes) > maxNumberBytes || bytes.ContainsAny(t.Bytes, "eE") {
				r.errorf(t.Range, "", "the number is too large")
				return false
			}
		case hclsyntax.TokenIdent, hclsyntax.TokenEqual, hclsyntax.TokenComma, hclsyntax.TokenOQuote, hclsyntax.TokenCQuote,
			hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit, hclsyntax.TokenQuotedNewline, hclsyntax.TokenNewline,
			hclsyntax.TokenComment, hclsyntax.TokenEOF:
		default:
			r.errorf(t.Range, "the file is blocks, attributes, texts between quotes, numbers and lists",
				"%q does not belong in this file", t.Bytes)
			return false
		}
	}
	return true
}
