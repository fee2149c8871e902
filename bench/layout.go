package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/badgerdir"
	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/shared"
)

// What the plugin writes, without a plugin: the records of its index, and the options of their database.

type record struct{ key, value []byte }

// messageRecord is what indexing a message writes.
func messageRecord(n int64) record {
	key, value, err := index.MessageRecord(speedMessage(n))
	if err != nil {
		panic(err) // its texts are ASCII
	}
	return record{key, value}
}

// groupRecord is what an entry adds to the records of its messages.
func groupRecord(position uint64, messages []shared.Message) record {
	key, value, err := index.GroupRecord(position, messages)
	if err != nil {
		panic(err) // its texts are ASCII
	}
	return record{key, value}
}

// logBytes is the size of records in Badger's log, as one transaction: a head, the key with its version, the value and
// a checksum each, and the mark of the transaction at the end.
func logBytes(records []record) int {
	const head, version, checksum, mark = 5, 8, 4, 32
	n := mark
	for _, r := range records {
		n += head + len(r.key) + version + len(r.value) + checksum
	}
	return n
}

// entryBytes is how many bytes of Badger's log the index writes for an entry of one message, and for one of a recall
// without an open step.
func entryBytes(ctx context.Context, dir string) (message, recall int, err error) {
	folder := filepath.Join(dir, "entries")
	x, err := index.Open(ctx, index.Options{Path: folder})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, x.Close(), os.RemoveAll(folder)) }()
	m := speedMessage(1)
	put, taken := index.Op{Put: &m}, index.Op{Recall: recallOf(m, 1)}
	taken.Recall.Steps = []string{shared.StepAttachments} // which has nothing to do
	var bytes [2]int
	for i, op := range []index.Op{put, taken} {
		before, err := logEnd(folder)
		if err != nil {
			return 0, 0, err
		}
		if _, err := x.Apply([][]index.Op{{op}}); err != nil {
			return 0, 0, err
		}
		after, err := logEnd(folder)
		if err != nil {
			return 0, 0, err
		}
		bytes[i] = after - before
	}
	return bytes[0], bytes[1], nil
}

// recallOf is the recall of a message as the built-in policy decides it, with the steps of the hosts here.
func recallOf(m shared.Message, n int64) *index.Recall {
	return &index.Recall{
		Steps: []string{shared.StepNotify, shared.StepHistory},
		Event: shared.Event{
			Tenant: m.Tenant, RecallID: recallID(n), Actor: shared.Actor{ID: "moderator"}, Role: shared.RoleAdmin, Message: m,
			RecalledAt: m.SentAt.Add(time.Second), Disposition: shared.DispositionErase,
			Rule:         shared.Rule{Name: "managers_any_time", File: "default.hcl", Line: 18},
			PolicyDigest: fmt.Sprintf("%064x", 1),
		},
	}
}

// logEnd is how far the newest log of an index is written.
func logEnd(folder string) (int, error) {
	logs, err := filepath.Glob(filepath.Join(folder, "*.mem"))
	if err != nil {
		return 0, err
	}
	slices.Sort(logs)
	for _, log := range slices.Backward(logs) { // the last one may be empty, for later
		data, err := os.ReadFile(log)
		if err != nil {
			return 0, err
		}
		if end := len(bytes.TrimRight(data, "\x00")); end > 0 {
			return end, nil
		}
	}
	return 0, fmt.Errorf("%s has no log", folder)
}

// openClosed opens the database of an index that no plugin has open.
func openClosed(folder string) (*badger.DB, error) {
	return badger.OpenManaged(badgerdir.BadgerOptions(folder, index.DefaultMemtableBytes, hclog.NewNullLogger()))
}

// compact brings a released index into its final shape and returns the bytes of its tables.
func compact(folder string) (int64, error) {
	db, err := openClosed(folder)
	if err != nil {
		return 0, fmt.Errorf("compact %s: %w", folder, err)
	}
	db.SetDiscardTs(db.MaxVersion())
	if err := db.Flatten(2); err != nil {
		return 0, fmt.Errorf("compact %s: %w", folder, err)
	}
	bytes := int64(0)
	for _, t := range db.Tables() {
		bytes += int64(t.OnDiskSize)
	}
	return bytes, db.Close()
}
