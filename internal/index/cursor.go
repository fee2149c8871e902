package index

import (
	"strconv"
	"strings"

	"github.com/chat-recall/recall/shared"
)

// cursorOf is the cursor behind the event of a sequence. It names the epoch of the index: after a restore the sequences
// that were handed out before may be those of other recalls.
func (x *Index) cursorOf(sequence uint64) string {
	return x.epoch + "-" + strconv.FormatUint(sequence, 36)
}

// sequenceOf is the sequence that a cursor stands behind; last is the newest of the index. The cursor is void if it is
// of another epoch, or of a recall that this index does not have; in a cluster that one is on its way. A text that is
// no cursor is a *FieldError.
func (x *Index) sequenceOf(cursor string, last uint64) (sequence uint64, void bool, err error) {
	if cursor == "" {
		return 0, false, nil
	}
	end := strings.LastIndexByte(cursor, '-') // of the epoch, which in a cluster is the id of the log and has its own
	sequence, err = strconv.ParseUint(cursor[end+1:], 36, 64)
	if end < 0 || err != nil {
		return 0, false, noCursor(cursor)
	}
	return sequence, cursor[:end] != x.epoch || sequence > last && x.logID == "", nil
}

// Cursor is a cursor of some numbers, that names the epoch of the index like those of pages.
func (x *Index) Cursor(numbers ...uint64) string {
	texts := make([]string, len(numbers))
	for i, n := range numbers {
		texts[i] = strconv.FormatUint(n, 36)
	}
	return x.epoch + "-" + strings.Join(texts, ".")
}

// ParseCursor reads a Cursor of so many numbers. It is void if it is of another epoch. A text that is no cursor is a
// *FieldError.
func (x *Index) ParseCursor(cursor string, count int) (numbers []uint64, void bool, err error) {
	end := strings.LastIndexByte(cursor, '-')
	texts := strings.Split(cursor[end+1:], ".")
	for _, text := range texts {
		n, err := strconv.ParseUint(text, 36, 63)
		if err != nil {
			return nil, false, noCursor(cursor)
		}
		numbers = append(numbers, n)
	}
	if end < 0 || len(numbers) != count {
		return nil, false, noCursor(cursor)
	}
	return numbers, cursor[:end] != x.epoch, nil
}

func noCursor(text string) error {
	return shared.Invalidf("after", "%.80q is not a cursor: pass on the next of an earlier page", text)
}
