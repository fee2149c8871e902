package shared

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrUnavailable says that the plugin is not there or not active, so the call was not answered. It may have
	// been carried out; repeating it is safe.
	ErrUnavailable = errors.New("recall plugin unavailable")

	// ErrOverloaded says that a queue is full; the call was not carried out. Try again after a while.
	ErrOverloaded = errors.New("recall plugin overloaded")

	// ErrUnimplemented says that the plugin is older than the call.
	ErrUnimplemented = errors.New("the recall plugin is older than this call")

	// ErrDamaged says that files of the index are damaged, missing or of another index. Nothing is answered from them;
	// the error names the file, the place and what to do.
	ErrDamaged = errors.New("index is damaged")

	// ErrCursorVoid says that a cursor of Since is of another index, or of this one before it was restored from a
	// backup. Recalls may lie before it that its holder never saw: start again from 0.
	ErrCursorVoid = errors.New("cursor is void: the index was restored or replaced; start again from 0")

	// ErrInvalid is what every *FieldError is.
	ErrInvalid = errors.New("invalid request")
)

// FieldError says which field of a call is wrong, and how. Nothing of the call was carried out.
type FieldError struct {
	Field   string // as in RecallRequest, in snake case with indexes: message_ids[3], messages[0].sent_at
	Problem string // what is wrong with it, and the limit
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

// Is makes errors.Is(err, ErrInvalid) true.
func (e *FieldError) Is(target error) bool { return target == ErrInvalid }

// Invalidf makes a *FieldError.
func Invalidf(field, format string, args ...any) error {
	return &FieldError{Field: field, Problem: fmt.Sprintf(format, args...)}
}

// DiagnosticsError says that files are wrong, and where.
type DiagnosticsError struct{ Diagnostics Diagnostics }

func (e *DiagnosticsError) Error() string {
	var lines []string
	for _, d := range e.Diagnostics {
		lines = append(lines, d.String())
	}
	return strings.Join(lines, "\n")
}
