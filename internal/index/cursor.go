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
		return 0, false, shared.Invalidf("after", "%.80q is not a cursor: pass on the next of an earlier page", cursor)
	}
	return sequence, cursor[:end] != x.epoch || sequence > last && x.logID == "", nil
}
