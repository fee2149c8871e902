package journal

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/chat-recall/recall/internal/index"
)

// EntryFormat is the newest format of an entry that this version reads, and all below it. An entry is written in the
// newest format that every member of the cluster reads.
const EntryFormat = index.OpFormat

// magic is the first byte of every entry.
const magic = 'R'

// An entry is, in this order:
//
//	'R', the format          a byte each
//	process                  8 bytes, big-endian
//	number                   uvarint
//	node                     uvarint of its length, and the name
//	calls                    uvarint of how many, and of each, uvarint of how many operations it has, and those
//
// encodeEntry encodes an entry of calls that passed [index.CheckOps].
func encodeEntry(e *index.LogEntry, format int) ([]byte, error) {
	b := append(make([]byte, 0, 1024), magic, byte(format))
	b = binary.BigEndian.AppendUint64(b, e.Process)
	b = binary.AppendUvarint(b, e.Number)
	b = append(binary.AppendUvarint(b, uint64(len(e.Node))), e.Node...)
	b = binary.AppendUvarint(b, uint64(len(e.Calls)))
	for _, ops := range e.Calls {
		b = binary.AppendUvarint(b, uint64(len(ops)))
		for i := range ops {
			var err error
			if b, err = index.AppendOp(b, &ops[i], format); err != nil {
				return nil, fmt.Errorf("encode operation %d: %w", i, err)
			}
		}
	}
	return b, nil
}

// checkFormat refuses what is not an entry of one of the formats up to newest.
func checkFormat(data []byte, newest int) error {
	switch {
	case len(data) < 2 || data[0] != magic:
		return fmt.Errorf("%w: it is no entry of a recall log", index.ErrCorrupt)
	case int(data[1]) > newest:
		return fmt.Errorf("%w: it has format %d, and this one knows %d", index.ErrNewer, data[1], newest)
	case data[1] < index.OldestOpFormat:
		return fmt.Errorf("%w: it has format %d", index.ErrCorrupt, data[1])
	}
	return nil
}

// decodeEntry decodes an entry of one of the formats up to newest, all of it or nothing. It fails with [index.ErrNewer]
// or [index.ErrCorrupt].
func decodeEntry(data []byte, newest int) (e index.LogEntry, err error) {
	if err := checkFormat(data, newest); err != nil {
		return e, err
	}
	b := string(data[2:])
	cut := fmt.Errorf("%w: it is cut short", index.ErrCorrupt)
	number := func(most uint64) (n uint64) {
		n, size := index.Uvarint(b)
		if size <= 0 || n > most {
			err = cut
			return 0
		}
		b = b[size:]
		return n
	}
	if len(b) < 8 {
		return e, cut
	}
	e.Process, b = binary.BigEndian.Uint64(data[2:]), b[8:]
	e.Number = number(1<<64 - 1)
	name := number(uint64(len(b)))
	if err != nil || name > uint64(len(b)) {
		return e, cut
	}
	e.Node, b = strings.Clone(b[:name]), b[name:]
	if err := e.CheckWriter(); err != nil {
		return e, fmt.Errorf("%w: %w", index.ErrCorrupt, err)
	}
	calls := number(uint64(len(b)))
	for range calls {
		count := number(uint64(len(b)))
		ops := make([]index.Op, count)
		for i := range ops {
			if ops[i], b, err = index.ReadOp(b, int(data[1])); err != nil {
				return e, err
			}
		}
		if err != nil {
			return e, err
		}
		if err := index.CheckOps(ops); err != nil {
			return e, fmt.Errorf("%w: %w", index.ErrCorrupt, err)
		}
		e.Calls = append(e.Calls, ops)
	}
	if err == nil && len(b) > 0 {
		err = fmt.Errorf("%w: it has %d bytes more than this one knows", index.ErrNewer, len(b))
	}
	return e, err
}
