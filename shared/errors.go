package shared

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrUnavailable says that the plugin did not answer the call: it is not running or not active. The call may have been
	// carried out. Repeating it is safe.
	ErrUnavailable = errors.New("recall plugin unavailable")

	// ErrOverloaded says that a queue is full. The call was not carried out. Try again later.
	ErrOverloaded = errors.New("recall plugin overloaded")

	// ErrUnimplemented says that the plugin is too old to know the call. The call was not carried out.
	ErrUnimplemented = errors.New("the recall plugin is older than this call")

	// ErrDamaged says that files of the index are damaged or missing, or belong to another index. The plugin answers
	// nothing from them. The error names the file and the place, and says what to do.
	ErrDamaged = errors.New("index is damaged")

	// ErrInvalid matches every [*FieldError] in errors.Is.
	ErrInvalid = errors.New("invalid request")
)

// FieldError says which field of a call is wrong, and how. No part of the call was carried out.
type FieldError struct {
	Field   string // as JSON names and indexes, such as targets[3].message_id
	Problem string // what is wrong with it, and the limit
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

// Is reports whether target is [ErrInvalid].
func (e *FieldError) Is(target error) bool { return target == ErrInvalid }

// Invalidf returns a [*FieldError] whose Problem is the formatted text.
func Invalidf(field, format string, args ...any) error {
	return &FieldError{Field: field, Problem: fmt.Sprintf(format, args...)}
}

// UpgradeError says at which step an upgrade failed, and why. The plugin that was in force before stays in force, or is
// started again.
type UpgradeError struct {
	Step  string // the step that failed, or the next one when the context ended: host.StepVerify and so on
	Cause error
}

func (e *UpgradeError) Error() string { return "upgrade: " + e.Step + ": " + e.Cause.Error() }

// Unwrap returns the cause.
func (e *UpgradeError) Unwrap() error { return e.Cause }

// ConfigError says what is wrong with configuration or rule files, and where.
type ConfigError struct{ Diagnostics Diagnostics }

func (e *ConfigError) Error() string {
	var lines []string
	for _, d := range e.Diagnostics {
		lines = append(lines, d.String())
	}
	return strings.Join(lines, "\n")
}
