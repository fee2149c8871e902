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

// Severity tells what a Diagnostic does to the files it is about.
type Severity string

const (
	// Error refuses the files.
	Error Severity = "error"
	// Warning leaves them usable: something in them is probably not what was meant.
	Warning Severity = "warning"
)

// Diagnostic is one thing that is wrong with a rule file, and where.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	Summary  string   `json:"summary"`          // what is wrong, one line
	Detail   string   `json:"detail,omitempty"` // what to do about it
	File     string   `json:"file,omitempty"`   // as it was named or found
	Line     int      `json:"line,omitempty"`   // from 1; 0: about the file, or about no file
	Column   int      `json:"column,omitempty"` // from 1, in characters
	Source   string   `json:"source,omitempty"` // the line, cut to 160 bytes around the place when it is longer

	caret int // bytes of Source before the place
	width int // characters to underline
}

// String renders the diagnostic as file:line:col, the source line with a caret under the place, and the advice.
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

// wideFrom is the first character that terminals show two columns wide, nearly all after it too.
const wideFrom = 0x1100

// Diagnostics is all that is wrong with some rule files, in the order of files and lines.
type Diagnostics []Diagnostic

// HasErrors tells whether the files are refused; warnings alone do not refuse them.
func (d Diagnostics) HasErrors() bool {
	for _, one := range d {
		if one.Severity == Error {
			return true
		}
	}
	return false
}

// String renders every diagnostic, as Diagnostic.String does.
func (d Diagnostics) String() string {
	var b strings.Builder
	for _, one := range d {
		b.WriteString(one.String())
	}
	return b.String()
}

// MaxDiagnostics bounds what one load reports: a megabyte of mistakes is not read by anybody.
const MaxDiagnostics = 50

// maxSourceBytes bounds the source line that a diagnostic shows.
const maxSourceBytes = 160

// maxText bounds the characters of a summary and of a detail, which quote what a file says: diagnostics go over the
// wire with the plugin's health.
const maxText = 1000

// A Reporter gathers the diagnostics of files that are read together.
type Reporter struct {
	Files []File // whose lines diagnostics show, in the order of the diagnostics

	found   Diagnostics
	starts  []hcl.Range // of found, to sort by
	left    int         // over MaxDiagnostics
	refused bool        // there is an error among all of them
}

// Errorf reports an error: what is wrong, and in detail what to do.
func (r *Reporter) Errorf(at hcl.Range, detail, format string, args ...any) {
	r.add(Error, at, fmt.Sprintf(format, args...), detail)
}

// Warnf reports a warning.
func (r *Reporter) Warnf(at hcl.Range, detail, format string, args ...any) {
	r.add(Warning, at, fmt.Sprintf(format, args...), detail)
}

// hcl takes over what the HCL parser reported.
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
			return // what is used twice is read twice
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

// cut is text without what is over maxText.
func cut(text string) string { return fmt.Sprintf("%.*s", maxText, text) }

// Source is the text of a file.
func (r *Reporter) Source(name string) ([]byte, bool) {
	for _, s := range r.Files {
		if s.Name == name {
			return s.Text, true
		}
	}
	return nil, false
}

// HasErrors tells whether anything so far refuses the files.
func (r *Reporter) HasErrors() bool { return r.refused }

// Full tells that more would not be shown.
func (r *Reporter) Full() bool { return len(r.found) >= MaxDiagnostics }

// Diagnostics returns what was found, files in the order they were read, lines ascending.
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
			severity = Error // one of them may be the only one
		}
		out = append(out, Diagnostic{Severity: severity,
			Summary: fmt.Sprintf("%d more errors and warnings are not shown", r.left)})
	}
	return out
}

// excerpt returns the line that at starts on, the bytes of it before at, and how many characters to underline.
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

// visible is text as a terminal may be given it: a file, or its name, must not clear the screen of who reads what is
// wrong with it, or show its characters in another order.
func visible(text []byte) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, strings.ToValidUTF8(string(text), "?"))
}
