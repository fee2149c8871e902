package shared

import (
	"fmt"
	"time"
)

// RulesState says which rules are in force, and why the files on disk are not. It is zero before the first rules are
// loaded, and for a plugin that is too old to report it.
type RulesState struct {
	Digest   string      `json:"digest,omitempty"`   // SHA-256 of the rules in force, hex: the PolicyDigest of events
	Paths    []string    `json:"paths,omitempty"`    // the files and folders that are watched; none: the built-in policy
	LoadedAt time.Time   `json:"loaded_at,omitzero"` // when the rules came into force
	Warnings Diagnostics `json:"warnings,omitempty"` // about the rules in force
	Refused  Diagnostics `json:"refused,omitempty"`  // why the files on disk are not in force; empty: they are

	// Fallback says that the plugin refused the files when it started. The last policy that was in force decides until the
	// files are fixed.
	Fallback bool `json:"fallback,omitempty"`
}

// Severity says whether a diagnostic is an error or a warning.
type Severity string

// The severities. A file with an error is not used; a file with only warnings is.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Diagnostic is one error or warning about a configuration or rule file.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	Summary  string   `json:"summary"`
	Detail   string   `json:"detail,omitempty"`
	File     string   `json:"file,omitempty"`
	Line     int      `json:"line,omitempty"`   // from 1; 0 if the diagnostic is not about a line
	Column   int      `json:"column,omitempty"` // from 1, in characters; 0 if unknown
	Source   string   `json:"source,omitempty"` // the line itself
}

// Diagnostics is a list of diagnostics, in the order of the files.
type Diagnostics []Diagnostic

// HasErrors reports whether any of the diagnostics is an error.
func (ds Diagnostics) HasErrors() bool {
	for _, d := range ds {
		if d.Severity == SeverityError {
			return true
		}
	}
	return false
}

// Err returns the errors among the diagnostics as one [*ConfigError], or nil if there are none.
func (ds Diagnostics) Err() error {
	var errs Diagnostics
	for _, d := range ds {
		if d.Severity == SeverityError {
			errs = append(errs, d)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return &ConfigError{Diagnostics: errs}
}

// String returns one line: file:line:column: severity: summary; detail.
func (d Diagnostic) String() string {
	s := string(d.Severity) + ": " + d.Summary
	if d.Detail != "" {
		s += "; " + d.Detail
	}
	if d.File == "" {
		return s
	}
	if d.Line == 0 {
		return d.File + ": " + s
	}
	return fmt.Sprintf("%s:%d:%d: %s", d.File, d.Line, d.Column, s)
}
