package shared

import (
	"fmt"
	"time"
)

// RulesState says which rules are in force, and why the files on disk are not. It is zero until rules were loaded for
// the first time, and for a plugin that is too old to report it.
type RulesState struct {
	Digest   string      `json:"digest,omitempty"`   // SHA-256 of the rules in force, hex: the PolicyDigest of events
	Paths    []string    `json:"paths,omitempty"`    // the files and folders that are followed; none: the built-in policy
	LoadedAt time.Time   `json:"loaded_at,omitzero"` // when the rules came into force
	Warnings Diagnostics `json:"warnings,omitempty"` // about the rules in force
	Refused  Diagnostics `json:"refused,omitempty"`  // why the files as they are now are not in force; none: they are

	// Fallback says that the files were refused when the plugin started, and that the last policy that was in force before
	// decides until they are mended.
	Fallback bool `json:"fallback,omitempty"`
}

// Severity orders diagnostics.
type Severity string

// An error keeps a file from being used; a warning does not.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Diagnostic is one thing to say about a configuration or rule file.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	Summary  string   `json:"summary"`
	Detail   string   `json:"detail,omitempty"`
	File     string   `json:"file,omitempty"`
	Line     int      `json:"line,omitempty"`   // from 1; 0 when the diagnostic is about no line
	Column   int      `json:"column,omitempty"` // from 1, in characters
	Source   string   `json:"source,omitempty"` // the line itself
}

// Diagnostics is a list of them, in the order of the files.
type Diagnostics []Diagnostic

// HasErrors tells whether any of them is an error.
func (ds Diagnostics) HasErrors() bool {
	for _, d := range ds {
		if d.Severity == SeverityError {
			return true
		}
	}
	return false
}

// Err is the errors among the diagnostics as one error, nil where there is none.
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

// String is one line: file:line:column: severity: summary; detail.
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
