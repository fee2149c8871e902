package shared

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrUnavailable says that the plugin is not there or not active, so the call was not answered. It may have been
	// carried out; repeating it is safe.
	ErrUnavailable = errors.New("recall plugin unavailable")

	// ErrOverloaded says that a queue is full. The call was not carried out; try again later.
	ErrOverloaded = errors.New("recall plugin overloaded")

	// ErrUnimplemented says that the plugin is older than the call.
	ErrUnimplemented = errors.New("the recall plugin is older than this call")

	// ErrDamaged says that files of the index are damaged, missing or of another index. Nothing is answered from them. The
	// error names the file, the place and what to do.
	ErrDamaged = errors.New("index is damaged")

	// ErrInvalid is what every *FieldError is.
	ErrInvalid = errors.New("invalid request")
)

// FieldError says which field of a call is wrong, and how. Nothing of the call was carried out.
type FieldError struct {
	Field   string // by JSON names with indexes, such as targets[3].message_id
	Problem string // what is wrong with it, and the limit
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

// Is makes errors.Is(err, ErrInvalid) true.
func (e *FieldError) Is(target error) bool { return target == ErrInvalid }

// Invalidf makes a *FieldError.
func Invalidf(field, format string, args ...any) error {
	return &FieldError{Field: field, Problem: fmt.Sprintf(format, args...)}
}

// UpgradeError says at which step an upgrade failed, and why. The plugin that was in force before stays, or is started
// again.
type UpgradeError struct {
	Step  string // the step that failed, or that was next when the context ended: host.StepVerify and so on
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
