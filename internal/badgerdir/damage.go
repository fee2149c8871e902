package badgerdir

import (
	"fmt"
	"strings"

	"github.com/chat-recall/recall/shared"
)

// ErrCorrupt says that files are damaged, incomplete or of another index. It is [shared.ErrDamaged].
var ErrCorrupt = shared.ErrDamaged

// Damage is one place where a file is not as it was written.
type Damage struct {
	File    string `json:"file"`   // its name in the folder
	Offset  int64  `json:"offset"` // in bytes; -1: the whole file
	Problem string `json:"problem"`
}

func (d Damage) String() string {
	if d.Offset < 0 {
		return d.File + ": " + d.Problem
	}
	return fmt.Sprintf("%s at byte %d: %s", d.File, d.Offset, d.Problem)
}

// A DamageError is an [ErrCorrupt] that lists every damaged place that was found.
type DamageError struct{ Found []Damage }

// maxShownDamage is how many places an error text lists. The whole list is in Found.
const maxShownDamage = 5

func (e *DamageError) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%v: ", ErrCorrupt)
	for i, d := range e.Found {
		if i == maxShownDamage {
			fmt.Fprintf(&text, "; and %d more", len(e.Found)-i)
			break
		}
		if i > 0 {
			text.WriteString("; ")
		}
		text.WriteString(d.String())
	}
	text.WriteString(Advice)
	return text.String()
}

func (e *DamageError) Unwrap() error { return ErrCorrupt }

// Advice ends the text of an [ErrCorrupt].
const Advice = "; restore the index from a backup (recall-plugin index restore), or save what can be read of it " +
	"(recall-plugin index salvage)"

// damaged returns a [DamageError] that names one place.
func damaged(file string, offset int64, format string, args ...any) *DamageError {
	return &DamageError{Found: []Damage{{File: file, Offset: offset, Problem: fmt.Sprintf(format, args...)}}}
}
