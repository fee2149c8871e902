package rules

import "github.com/chat-recall/recall/internal/hclfile"

// Severity tells what a Diagnostic does to the files it is about.
type Severity = hclfile.Severity

const (
	// Error refuses the files.
	Error = hclfile.Error
	// Warning leaves them usable: something in them is probably not what was meant.
	Warning = hclfile.Warning
)

// Diagnostic is one thing that is wrong with a rule file, and where: Severity, Summary, Detail, File, Line, Column and
// Source. Its String is file:line:column, the line with a caret under the place, and the advice.
type Diagnostic = hclfile.Diagnostic

// Diagnostics is all that is wrong with some rule files, in the order of files and lines. HasErrors tells whether the
// files are refused.
type Diagnostics = hclfile.Diagnostics

// A File is one rule file: its Name as decisions and diagnostics call it, and its Text, which is not to be changed.
type File = hclfile.File
