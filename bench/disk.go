package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// The limit of the disk: the records of the index written straight to Badger, in this process, by one committer that
// gathers what waits into one transaction and syncs it. It decides nothing and reads nothing.

// indexOptions are those of the plugin's index.
func indexOptions(folder string) badger.Options {
	return badger.DefaultOptions(folder).WithLogger(nil).WithMetricsEnabled(false).
		WithBypassLockGuard(true).WithSyncWrites(true).WithDetectConflicts(false).WithNumVersionsToKeep(1).
		WithMemTableSize(16 << 20).WithNumMemtables(2).WithNumCompactors(2).WithValueLogFileSize(1 << 20).
		WithCompression(options.None).WithBlockCacheSize(0).WithChecksumVerificationMode(options.OnBlockRead).
		WithIndexCacheSize(64 << 20)
}

type record struct{ key, value []byte }

type diskCall struct {
	records []record
	done    chan error
}

type disk struct {
	db        *badger.DB
	calls     chan *diskCall
	committer sync.WaitGroup
}

func openDisk(folder string) (*disk, error) {
	db, err := badger.OpenManaged(indexOptions(folder))
	if err != nil {
		return nil, err
	}
	d := &disk{db: db, calls: make(chan *diskCall, 4096)}
	d.committer.Go(d.commit)
	return d, nil
}

func (d *disk) close() error {
	close(d.calls)
	d.committer.Wait()
	return d.db.Close()
}

func (d *disk) commit() {
	for ts := uint64(1); ; ts++ {
		call, ok := <-d.calls
		if !ok {
			return
		}
		txn := d.db.NewTransactionAt(ts, true)
		var group []*diskCall
		var err error
		for size := 0; ; {
			group = append(group, call)
			for _, r := range call.records {
				if err == nil {
					err = txn.Set(r.key, r.value)
				}
				size += len(r.key) + len(r.value) + 12
			}
			if size > 1<<20 {
				break
			}
			select {
			case call, ok = <-d.calls:
			default:
				ok = false
			}
			if !ok {
				break
			}
		}
		if err == nil {
			err = txn.CommitAt(ts, nil)
		}
		txn.Discard()
		for _, c := range group {
			c.done <- err
		}
	}
}

func (d *disk) write(records []record) error {
	c := &diskCall{records: records, done: make(chan error, 1)}
	d.calls <- c
	return <-c.done
}

// messages writes what indexing a message writes: the message and the entry of its sender.
func (d *disk) messages(name string, callers, per int) *load {
	return &load{name: name, callers: callers, per: per,
		do: func(context.Context, int) (time.Duration, error) {
			return timed(func() error {
				records := make([]record, 0, 2*per)
				for range per {
					n := ids.Add(1)
					records = append(records, messageRecord(n, 0), senderRecord(n))
				}
				return d.write(records)
			})
		}}
}

// recalls writes what a recall writes: the message with its tombstone, the recall of the conversation, the open step,
// what waits for it, where the event is found, whose the recall id is, the ledger and the sequence.
func (d *disk) recalls(name string, callers int) *load {
	return &load{name: name, callers: callers, per: 1,
		do: func(context.Context, int) (time.Duration, error) {
			return timed(func() error { return d.write(recallRecords(ids.Add(1))) })
		}}
}

func recallRecords(n int64) []record {
	number := binary.BigEndian.AppendUint64(nil, uint64(n))
	m := speedMessage(n)
	return []record{
		messageRecord(n, 36+8+2+8+4),
		{append([]byte("r/"+tenant+"\x00\x02"+m.Conversation.ID+"\x00"), number...), make([]byte, 36+26+4)},
		{append([]byte("e/notify\x00"), number...), nil},
		{append([]byte("w/"), number...), nil},
		{append([]byte("q/"), number...), make([]byte, 36+26+len(tenant)+6)},
		{[]byte("o/" + tenant + "\x00" + recallID(n) + "\x00"), make([]byte, 2+len(m.Sender)+2)},
		ledgerRecord(n),
		{[]byte("n/"), number},
	}
}

func ledgerRecord(n int64) record {
	at := binary.BigEndian.AppendUint64([]byte("l/"+tenant+"\x00"+recallID(n)+"\x00"), uint64(n))
	return record{at, make([]byte, ledgerBytes)}
}

// ledgerBytes is the size of a ledger entry with the seven standard steps.
const ledgerBytes = 260

func messageRecord(n int64, more int) record {
	m := speedMessage(n)
	value := make([]byte, 2+2+len(m.Conversation.ID)+2+len(m.Sender)+2+9+more)
	copy(value, m.Conversation.ID+m.Sender)
	binary.BigEndian.PutUint64(value[len(value)-8:], uint64(m.SentAt.UnixMicro()))
	return record{[]byte("m/" + tenant + "\x00" + m.ID + "\x00"), value}
}

func senderRecord(n int64) record {
	m := speedMessage(n)
	key := binary.BigEndian.AppendUint64([]byte("s/"+tenant+"\x00"+m.Sender+"\x00"), uint64(m.SentAt.UnixMicro()))
	return record{append(key, m.ID+"\x00"...), nil}
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
