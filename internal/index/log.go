package index

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// Several indexes may follow one log: then each applies its entries with ApplyLog, and they stay equal in every key and
// value but for the identity of each and the padding of Flush.

// Log says how far an index has applied the log that it follows.
type Log struct {
	ID       string // of the log; empty: the index is that of a single machine
	Position uint64 // of the last entry that changed the index; 0: none has
	Sum      [sha256.Size]byte
}

// LogEntry is one entry of a log that several indexes follow.
type LogEntry struct {
	Position uint64 // in the log, from 1 on
	Node     string // that wrote it
	Process  uint64 // of that node
	Number   uint64 // of the entry among those of the process: they count in the order of their numbers, from 1 on
	Calls    [][]Op
}

// CheckWriter refuses an entry that no process of a node has written.
func (e *LogEntry) CheckWriter() error {
	if e.Process == 0 {
		return shared.Invalidf("process", "is 0")
	}
	return CheckNode("node", e.Node)
}

// ErrOtherLog says that an index has entries of another log, or is that of a single machine.
var ErrOtherLog = errors.New("index of another log")

// Follow has the index follow a log, from [Index.Log] on, as a node of its cluster: the steps that it reads as open are
// those of that node. A new index may follow any log. Follow is called before anything else.
func (x *Index) Follow(ctx context.Context, id, node string) error {
	if err := CheckNode("node", node); err != nil {
		return err
	}
	switch {
	case id == "":
		return shared.Invalidf("log", "has no id")
	case x.logID == id:
		x.node = node
		return nil
	case x.logID != "":
		return fmt.Errorf("%w: it follows the log %s and not %s; name another folder, and it is filled from the log",
			ErrOtherLog, x.logID, id)
	}
	isEmpty := true
	err := x.dir.View(func(txn *badger.Txn) error {
		return each(ctx, txn, newKey('m'), nil, func(*badger.Item) (bool, error) {
			isEmpty = false
			return false, nil
		})
	})
	if err != nil {
		return err
	}
	if !isEmpty || x.sequence > 0 || x.mayForget.Load() {
		return fmt.Errorf("%w: it has the messages of a single machine; name another folder, and to take them into a new "+
			"cluster, run recall-plugin index to-cluster", ErrOtherLog)
	}
	x.logID, x.node, x.epoch = id, node, id
	x.log, x.members = Log{ID: id}, map[string]*Member{}
	return nil
}

// FollowsLog reports whether the index follows a log, as that of a node of a cluster does.
func (x *Index) FollowsLog() bool { return x.logID != "" }

// Log says which log the index follows and how far it is. Only the caller of ApplyLog may call it.
func (x *Index) Log() Log { return x.log }

// readLog reads which log the index follows, if any, and who is in the cluster.
func (x *Index) readLog(txn *badger.Txn) error {
	at, follows, err := logIn(txn)
	if err != nil || !follows {
		return err
	}
	x.logID, x.epoch = at.ID, at.ID // its cursors are those of all nodes: clients go from one to another
	x.log = at
	x.members, err = readMembers(txn)
	return err
}

// ApplyLog applies the first of these entries, as many as fit in one transaction and at least one, and tells what each
// of those did. It is [Index.Apply] for an index that follows a log.
//
// An entry counts once, and those of a process in the order of their numbers. It is Dropped if it was applied before,
// at this position or another one; if one before it is still to come (Early); or if its writer is not the process of
// its node. Each process joins the cluster first, and by that ends the one before it. The only other thing that it may
// do before is to have its own node leave, so that it can join as that of another machine.
func (x *Index) ApplyLog(entries []LogEntry) ([]Applied, error) {
	if err := x.Failure(); err != nil {
		return nil, err
	}
	if x.logID == "" {
		return nil, fmt.Errorf("%w: the index follows no log", shared.ErrUnavailable)
	}
	b := x.newBatch()
	defer b.discard()
	applied := make([]Applied, 0, len(entries))
	for len(applied) < len(entries) {
		e := &entries[len(applied)]
		if len(applied) > 0 && b.bytes+e.bytes() > b.maxBytes { // it would be undone, and with it those before
			break
		}
		a, err := x.applyEntry(b, e)
		switch {
		case errors.Is(err, ErrTooLarge) && len(applied) > 0: // the transaction has a part of it
			entries, applied = entries[:len(applied)], applied[:0]
			b.reset(x)
		case err != nil:
			return nil, fmt.Errorf("entry %d of the log: %w", e.Position, err)
		default:
			applied = append(applied, a)
		}
	}
	if err := b.endLog(); err != nil {
		return nil, err
	}
	if err := x.commit(b); err != nil {
		return nil, err
	}
	return applied, nil
}

// bytes is about what an entry writes.
func (e *LogEntry) bytes() (n int64) {
	for _, ops := range e.Calls {
		for i := range ops {
			n += int64(ops[i].Bytes())
		}
	}
	return n
}

func (x *Index) applyEntry(b *batch, e *LogEntry) (Applied, error) {
	if len(e.Calls) == 0 { // it was written to learn how far the log is
		return Applied{}, nil
	}
	written := &indexpb.Written{}
	if _, err := get(b.txn, writtenKey(e.Node), written); err != nil {
		return Applied{}, err
	}
	joins, clears := ofItself(e)
	if counts, early := admits(written, e, joins || clears); e.Position <= b.log.Position || !counts {
		return Applied{Dropped: true, Early: early && e.Position > b.log.Position}, nil
	}
	if !b.fits(&writes{}) { // an entry whose calls are all refused is noted, too
		return Applied{}, ErrTooLarge
	}
	isWriter := written.Process == e.Process
	b.begin(e)
	before := b.count
	answers, err := x.applyCalls(b, e.Calls)
	if err != nil {
		return Applied{}, err
	}
	if isWriter || joins && answers[0].Results[0].New {
		if err := b.note(); err != nil {
			return Applied{}, err
		}
	}
	if err := b.endEntry(e.Position); err != nil {
		return Applied{}, err
	}
	if b.count == before { // as of a Join that does not apply: the log goes on as if it was not there, in any batch
		return Applied{Answers: answers}, nil
	}
	b.log.Position = e.Position
	b.sum.Sum(b.log.Sum[:0])
	return Applied{Answers: answers, Opened: b.opened, Sum: b.log.Sum}, nil
}

// begin begins an entry of a log.
func (b *batch) begin(e *LogEntry) {
	b.entry, b.opened, b.sum = e, map[string]uint64{}, sha256.New()
	b.sum.Write(b.log.Sum[:])
}

// ofItself reports whether an entry is a process joining, or ending the membership of its own node.
func ofItself(e *LogEntry) (joins, leaves bool) {
	if len(e.Calls) != 1 || len(e.Calls[0]) != 1 {
		return false, false
	}
	op := &e.Calls[0][0]
	return op.Join != nil && op.Join.Member.Node == e.Node, op.Leave != nil && op.Leave.Node == e.Node
}

// admits reports whether an entry counts: it is the next one of the process that writes for its node; or it is of
// another one, which may write it. One that is early comes again, after those before it.
func admits(written *indexpb.Written, e *LogEntry, other bool) (counts, early bool) {
	if written.Process != e.Process {
		return other, false
	}
	return e.Number == written.UpTo+1, e.Number > written.UpTo+1
}

// note notes that the entry of the batch is applied.
func (b *batch) note() error {
	e := b.entry
	k := writtenKey(e.Node)
	if b.members[e.Node] == nil { // it has left with this entry
		return b.change(&entry{key: k, delete: true})
	}
	value, err := encode(&indexpb.Written{Process: e.Process, UpTo: e.Number})
	if err != nil {
		return err
	}
	return b.change(&entry{key: k, value: value})
}

// endLog writes how far the log is applied.
func (b *batch) endLog() error {
	if b.count == 0 {
		return nil
	}
	b.sum = nil
	value, err := encode(encodeLog(b.log))
	if err != nil {
		return err
	}
	return b.change(&entry{key: logKey, value: value})
}

// addToSum adds a change to a sum. No two changes are added as the same bytes.
func addToSum(sum hash.Hash, e *entry) {
	var head [2 * binary.MaxVarintLen64]byte
	size := 0 // of a key that is deleted
	if !e.delete {
		size = len(e.value) + 1
	}
	n := binary.PutUvarint(head[:], uint64(len(e.key)))
	n += binary.PutUvarint(head[n:], uint64(size))
	sum.Write(head[:n])
	sum.Write(e.key)
	sum.Write(e.value)
}
