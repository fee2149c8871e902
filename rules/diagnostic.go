package rules

import "github.com/chat-recall/recall/internal/hclfile"

// Severity is the severity of a [Diagnostic].
type Severity = hclfile.Severity

const (
	// Error means that the files are refused.
	Error = hclfile.Error
	// Warning means that something is probably a mistake. The files are usable.
	Warning = hclfile.Warning
)

// Diagnostic is one problem of a rule file: Severity, Summary, Detail (what to do), File, Line, Column and Source. Its
// String method renders file:line:column, the line with a caret under the position, and the advice.
type Diagnostic = hclfile.Diagnostic

// Diagnostics is all problems of some rule files, in the order of files and lines. Its HasErrors method reports whether
// the files are refused.
type Diagnostics = hclfile.Diagnostics

// File is one rule file: its Name in decisions and diagnostics, and its Text, which must not be modified.
type File = hclfile.File
