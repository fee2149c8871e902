package index

import (
	"fmt"
	"strconv"

	"github.com/chat-recall/recall/shared"
)

// A cursor of Since is a sequence, and above it a tag of the epoch of the index: after a restore the sequences that
// were handed out before may be those of other recalls.
const (
	cursorTagBits  = 24
	sequenceBits   = 64 - cursorTagBits
	maxSequence    = 1<<sequenceBits - 1 // at a thousand recalls a second it is reached after 35 years
	cursorTagMask  = 1<<cursorTagBits - 1
	epochTagDigits = cursorTagBits / 4 // of hex
)

// cursorTag is what cursors carry of an epoch; never 0, so that no cursor but the first is 0.
func cursorTag(epoch string) uint64 {
	tag, err := strconv.ParseUint(epoch[:min(len(epoch), epochTagDigits)], 16, 64)
	if err != nil || tag == 0 {
		return 1
	}
	return tag & cursorTagMask
}

// cursorOf is the cursor behind the event of a sequence.
func (x *Index) cursorOf(sequence uint64) uint64 {
	return cursorTag(x.epoch)<<sequenceBits | sequence
}

// sequenceOf is the sequence that a cursor stands behind; last is the newest of the index.
func (x *Index) sequenceOf(cursor, last uint64) (uint64, error) {
	if cursor == 0 {
		return 0, nil
	}
	sequence := cursor & maxSequence
	if tag := cursor >> sequenceBits; tag != cursorTag(x.epoch) || sequence > last {
		return 0, fmt.Errorf("%w (after: %d)", shared.ErrCursorVoid, cursor)
	}
	return sequence, nil
}
