package index

import (
	"github.com/dgraph-io/badger/v4"
)

// batch is the transaction of one entry.
type batch struct {
	txn  *badger.Txn // its reads see its writes
	base *badger.Txn // the state before it: an iterator over txn sorts all of its writes each time

	maxBytes, maxCount int64
	bytes, count       int64
	ops                int

	sequence   uint64                     // of the last recall in it
	failures   uint64                     // position of the last failed attempt in it
	usesBefore *badger.Iterator           // of base, over all attachments; nil until it is needed
	uses       map[string]map[string]bool // attachment prefix → message id → whether it uses it now, where this changed
	opened     map[string]uint64          // steps that it opens, and the first event that it opens each for
	group      groupWriter                // the messages that it indexes
	recalls    []*recentEvent             // that it makes
	recent     *recentEvents              // of earlier ones
	ids        *idFilter
}

func (x *Index) newBatch() *batch {
	bytes, entries := x.dir.Limits()
	return &batch{
		txn:      x.dir.NewTransaction(true),
		base:     x.dir.NewTransaction(false),
		maxBytes: bytes - 256, // the group, the sequence and the position are written last
		maxCount: entries - 4,
		sequence: x.sequence,
		failures: x.failures,
		uses:     map[string]map[string]bool{},
		opened:   map[string]uint64{},
		recent:   &x.recent,
		ids:      x.ids,
	}
}

func (b *batch) discard() {
	if b.usesBefore != nil {
		b.usesBefore.Close()
		b.usesBefore = nil
	}
	b.txn.Discard()
	b.base.Discard()
}

func (b *batch) fits(w *writes) bool {
	return b.bytes+w.bytes() < b.maxBytes && b.count+int64(len(w.entries)) < b.maxCount
}

// writes are what one operation changes. All of them are planned before any is made.
type writes struct {
	entries  []entry
	uses     []changedUse
	opened   []string // steps, of the event openedOf
	openedOf uint64
	indexed  []member     // new messages
	hashes   []uint64     // of them, for the filter of ids
	recalled *recentEvent // takes the next sequence; nil: the operation makes no recall
	failed   bool         // takes the next position of failed attempts
}

func (w *writes) reset() {
	*w = writes{
		entries: w.entries[:0],
		uses:    w.uses[:0],
		opened:  w.opened[:0],
		indexed: w.indexed[:0],
		hashes:  w.hashes[:0],
	}
}

type entry struct {
	key    key
	value  []byte
	delete bool
}

// bytes is the size as Badger counts it: 2 bytes of meta and 10 of version for each entry.
func (w *writes) bytes() int64 {
	n := int64(0)
	for i := range w.entries {
		n += int64(len(w.entries[i].key) + len(w.entries[i].value) + 12)
	}
	for i := range w.indexed {
		n += memberBytes(&w.indexed[i])
	}
	return n
}

func (b *batch) write(w *writes) error {
	for i := range w.entries {
		e := &w.entries[i]
		var err error
		if e.delete {
			err = b.txn.Delete(e.key)
		} else {
			err = b.txn.Set(e.key, e.value)
		}
		if err != nil {
			return err
		}
	}
	b.bytes += w.bytes()
	b.count += int64(len(w.entries))
	for _, u := range w.uses {
		ids := b.uses[string(u.attachment)]
		if ids == nil {
			ids = map[string]bool{}
			b.uses[string(u.attachment)] = ids
		}
		ids[u.message] = u.uses
	}
	for _, step := range w.opened {
		if first, there := b.opened[step]; !there || w.openedOf < first {
			b.opened[step] = w.openedOf
		}
	}
	for i := range w.indexed {
		b.group.add(&w.indexed[i])
		b.ids.add(w.hashes[i])
	}
	if w.recalled != nil {
		b.sequence++
		b.recalls = append(b.recalls, w.recalled)
	}
	if w.failed {
		b.failures++
	}
	return nil
}
