package hclfile

import (
	"bytes"
	"fmt"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
)

// Severity is the severity of a [Diagnostic].
type Severity string

const (
	// Error means that the files are refused.
	Error Severity = "error"
	// Warning means that something is probably a mistake. The files are usable.
	Warning Severity = "warning"
)

// Diagnostic is one problem of a file, and its position.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	Summary  string   `json:"summary"`          // what is wrong, one line
	Detail   string   `json:"detail,omitempty"` // what to do about it
	File     string   `json:"file,omitempty"`   // name of the file
	Line     int      `json:"line,omitempty"`   // from 1; 0: the whole file, or no file
	Column   int      `json:"column,omitempty"` // from 1, in characters
	Source   string   `json:"source,omitempty"` // the line, at most 160 bytes around the position

	caret int // bytes of Source before the position
	width int // characters to underline
}

// String renders file:line:column, the source line with a caret under the position, and the advice.
func (d Diagnostic) String() string {
	var b strings.Builder
	switch {
	case d.Line > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", d.File, d.Line, d.Column)
	case d.File != "":
		fmt.Fprintf(&b, "%s: ", d.File)
	}
	fmt.Fprintf(&b, "%s: %s\n", d.Severity, d.Summary)
	if d.Line > 0 {
		fmt.Fprintf(&b, "    %s\n    ", d.Source)
		for _, r := range d.Source[:d.caret] {
			switch {
			case r == '\t':
				b.WriteByte('\t')
			case r >= wideFrom:
				b.WriteString("  ")
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteString("^" + strings.Repeat("~", max(d.width-1, 0)) + "\n")
	}
	if d.Detail != "" {
		fmt.Fprintf(&b, "  %s\n", d.Detail)
	}
	return b.String()
}

// wideFrom is the first character that terminals show two columns wide; so are most characters after it.
const wideFrom = 0x1100

// Diagnostics is all problems of some files, in the order of files and lines.
type Diagnostics []Diagnostic

// HasErrors reports whether the files are refused, which warnings alone do not do.
func (d Diagnostics) HasErrors() bool {
	for _, one := range d {
		if one.Severity == Error {
			return true
		}
	}
	return false
}

// String renders every diagnostic like [Diagnostic.String].
func (d Diagnostics) String() string {
	var b strings.Builder
	for _, one := range d {
		b.WriteString(one.String())
	}
	return b.String()
}

// MaxDiagnostics bounds the diagnostics of one load. Nobody reads more.
const MaxDiagnostics = 50

// maxSourceBytes bounds the source line that a diagnostic shows.
const maxSourceBytes = 160

// maxText bounds the characters of a summary and of a detail. They quote the file, and diagnostics are sent with the
// health of the plugin.
const maxText = 1000

// Reporter collects the diagnostics of files that are read together.
type Reporter struct {
	Files []File // whose lines diagnostics show, in this order

	found   Diagnostics
	starts  []hcl.Range // of found, to sort by
	left    int         // number of diagnostics that were dropped
	refused bool        // there is an error, shown or dropped
}

// Errorf reports an error. detail says what to do.
func (r *Reporter) Errorf(at hcl.Range, detail, format string, args ...any) {
	r.add(Error, at, fmt.Sprintf(format, args...), detail)
}

// Warnf reports a warning. detail says what to do.
func (r *Reporter) Warnf(at hcl.Range, detail, format string, args ...any) {
	r.add(Warning, at, fmt.Sprintf(format, args...), detail)
}

// hcl adds the diagnostics of the HCL parser.
func (r *Reporter) hcl(diags hcl.Diagnostics, l *Language) {
	for _, d := range diags {
		severity, at := Error, hcl.Range{}
		if d.Severity == hcl.DiagWarning {
			severity = Warning
		}
		if d.Subject != nil {
			at = *d.Subject
		}
		detail := d.Detail
		if d.Summary == "Missing newline after argument" {
			detail += " " + l.Ended
		}
		r.add(severity, at, strings.TrimSuffix(d.Summary, "."), detail)
	}
}

func (r *Reporter) add(severity Severity, at hcl.Range, summary, detail string) {
	r.refused = r.refused || severity == Error
	summary, detail = cut(summary), cut(strings.TrimSpace(detail))
	d := Diagnostic{Severity: severity, Summary: summary, Detail: detail, File: visible([]byte(at.Filename))}
	for i, other := range r.found {
		if r.starts[i] == at && other.Summary == summary {
			return // a value that is used twice is decoded twice
		}
	}
	if r.Full() {
		r.left++
		return
	}
	if src, ok := r.Source(at.Filename); ok && at.Start.Line > 0 {
		d.Line, d.Column = at.Start.Line, at.Start.Column
		d.Source, d.caret, d.width = excerpt(src, at)
	}
	r.found = append(r.found, d)
	r.starts = append(r.starts, at)
}

// cut returns at most maxText characters of text.
func cut(text string) string { return fmt.Sprintf("%.*s", maxText, text) }

// Source returns the text of a file.
func (r *Reporter) Source(name string) ([]byte, bool) {
	for _, s := range r.Files {
		if s.Name == name {
			return s.Text, true
		}
	}
	return nil, false
}

// HasErrors reports whether there is an error so far.
func (r *Reporter) HasErrors() bool { return r.refused }

// Full reports whether further diagnostics are only counted.
func (r *Reporter) Full() bool { return len(r.found) >= MaxDiagnostics }

// Diagnostics returns the diagnostics in the order of files and lines.
func (r *Reporter) Diagnostics() Diagnostics {
	order := make(map[string]int, len(r.Files))
	for i, s := range r.Files {
		order[s.Name] = i
	}
	index := make([]int, len(r.found))
	for i := range index {
		index[i] = i
	}
	sort.SliceStable(index, func(i, j int) bool {
		a, b := r.starts[index[i]], r.starts[index[j]]
		if order[a.Filename] != order[b.Filename] {
			return order[a.Filename] < order[b.Filename]
		}
		return a.Start.Byte < b.Start.Byte
	})
	var out Diagnostics
	for _, i := range index {
		out = append(out, r.found[i])
	}
	if r.left > 0 {
		severity := Warning
		if r.refused {
			severity = Error // the only error may be among them
		}
		out = append(out, Diagnostic{Severity: severity,
			Summary: fmt.Sprintf("%d more errors and warnings are not shown", r.left)})
	}
	return out
}

// excerpt returns the line on which at starts, the number of its bytes before at, and the number of characters to
// underline.
func excerpt(src []byte, at hcl.Range) (line string, caret, width int) {
	start := min(at.Start.Byte, len(src))
	from := bytes.LastIndexByte(src[:start], '\n') + 1
	to := len(src)
	if n := bytes.IndexByte(src[start:], '\n'); n >= 0 {
		to = start + n
	}
	end := min(max(at.End.Byte, start), to)
	if to-from > maxSourceBytes {
		from = max(from, start-maxSourceBytes/2)
		to = min(to, from+maxSourceBytes)
		for from < start && !utf8.RuneStart(src[from]) {
			from++
		}
		for to < len(src) && to > start && !utf8.RuneStart(src[to]) {
			to--
		}
		end = min(end, to)
	}
	text, rest := visible(src[from:start]), visible(bytes.TrimSuffix(src[start:to], []byte("\r")))
	return text + rest, len(text), utf8.RuneCount(src[start:max(end, start)])
}

// visible returns text that is safe for a terminal. A file or its name must not clear the reader's screen or reorder
// its characters.
func visible(text []byte) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, strings.ToValidUTF8(string(text), "?"))
}
