package main

import (
	"encoding/binary"
	"fmt"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// What the plugin writes: the options and the records of its index, without the index. They are those of
// internal/index, which this package may not import; a test compares them with what a plugin writes.

// indexOptions are those of the plugin's index. A commit is on disk once the newest log is synced, see syncedLog.
func indexOptions(folder string) badger.Options {
	return badger.DefaultOptions(folder).WithLogger(nil).WithMetricsEnabled(false).
		WithBypassLockGuard(true).WithSyncWrites(false).WithDetectConflicts(false).WithNumVersionsToKeep(1).
		WithMemTableSize(16 << 20).WithNumMemtables(2).WithNumCompactors(2).WithValueLogFileSize(1 << 20).
		WithCompression(options.None).WithBlockCacheSize(0).WithChecksumVerificationMode(options.OnBlockRead).
		WithIndexCacheSize(64 << 20)
}

type record struct{ key, value []byte }

// messageRecords are what indexing a message writes.
func messageRecords(n int64) []record { return []record{messageRecord(n, 0)} }

func messageRecord(n int64, tombstone int) record {
	m := speedMessage(n)
	value := make([]byte, 2+2+len(m.Conversation.ID)+2+len(m.Sender)+2+9+tombstone)
	copy(value, m.Conversation.ID+m.Sender)
	binary.BigEndian.PutUint64(value[len(value)-8:], uint64(m.SentAt.UnixMicro()))
	return record{[]byte("m/" + tenant + "\x00" + m.ID + "\x00"), value}
}

// groupRecord is what a commit adds to its messages: the end of each id, which mostly begins as the one before, its
// sender and its time in short.
func groupRecord(version uint64, messages int) record {
	const head, first, other = 10 + len(tenant), 28 + 4 + 6, 17 + 4 + 1
	value := make([]byte, head+first+other*(messages-1))
	return record{binary.BigEndian.AppendUint64([]byte("t/"), version), value}
}

// recallRecords are what a recall without an open step writes: the message with its tombstone, the recall of the
// conversation, where the event is found, whose the recall id is, the ledger and the sequence.
func recallRecords(n int64) []record {
	const tombstoneBytes, ledgerBytes = 36 + 8 + 2 + 8 + 4, 140
	number := binary.BigEndian.AppendUint64(nil, uint64(n))
	m := speedMessage(n)
	ledger := binary.BigEndian.AppendUint64([]byte("l/"+tenant+"\x00"+recallID(n)+"\x00"), uint64(n))
	return []record{
		messageRecord(n, tombstoneBytes),
		{append([]byte("r/"+tenant+"\x00\x02"+m.Conversation.ID+"\x00"), number...), make([]byte, 36+26+4)},
		{append([]byte("q/"), number...), make([]byte, 36+26+len(tenant)+6)},
		{[]byte("o/" + tenant + "\x00" + recallID(n) + "\x00"), make([]byte, 2+len("moderator")+2)},
		{ledger, make([]byte, ledgerBytes)},
		{[]byte("n/"), number},
	}
}

// outcomeRecords are what opening and settling a step write: its place in the step queue, the removal of it, and the
// outcome.
func outcomeRecords(n int64, step string) []record {
	number := binary.BigEndian.AppendUint64(nil, uint64(n))
	queue := append([]byte("e/"+step+"\x00"), number...)
	outcome := append(append([]byte("s/"), number...), step+"\x00"...)
	return []record{{queue, nil}, {queue, nil}, {outcome, make([]byte, 13)}}
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

// compact brings a released index into its final shape and returns the bytes of its tables.
func compact(folder string) (int64, error) {
	db, err := badger.OpenManaged(indexOptions(folder))
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
