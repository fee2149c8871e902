package index

import (
	"fmt"
	"hash"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index/indexpb"
)

// batch is the transaction of one entry, or of several of a log that the index follows.
type batch struct {
	txn  *badger.Txn // its reads see its writes
	base *badger.Txn // the state before it: an iterator over txn sorts all of its writes each time

	maxBytes, maxCount int64
	bytes, count       int64
	ops                int

	usesBefore   *badger.Iterator           // of base, over all attachments; nil until it is needed
	uses         map[string]map[string]bool // attachment prefix → message id → whether it uses it now, where this changed
	links        map[string]map[string]bool // relation prefix → suffix → whether there is such a key now
	waits        *waitCounts
	waitChanges  map[string]int // of them, by the batch
	cascade      cascade        // what is to be recalled with the message of the last plan
	openCascades int64
	planned      map[string]bool   // ids that the plans of an atomic call recall; nil: plans are applied at once
	opened       map[string]uint64 // steps that it opens, and the first event that it opens each for
	group        groupWriter       // the messages that it indexes
	recalls      []*recentEvent    // that it makes
	recent       *recentEvents     // of earlier ones
	ids          *idFilter
	secret       []byte          // of the keyed hashes; nil: nothing was ever forgotten
	hasher       *hasher         // by it; nil until it is needed
	hashes       *idFilter       // those of recalled messages that were forgotten
	changed      map[uint64]bool // events that it erases, or changes the entry of

	counters          // with what is in it
	counted  counters // as the transaction has them

	// Of an index that follows a log.
	node    string // whose queues the host of this machine reads
	log     Log
	entry   *LogEntry          // that is being applied
	members map[string]*Member // is replaced and never changed; nil on a single machine
	sum     hash.Hash          // of what the entry changes; nil for what is not of it
}

// counters are the numbers of n/.
type counters struct {
	sequence uint64 // of the last recall
	failures uint64 // position of the last failed attempt
	spent    uint64 // number of the newest spend of a limit
	unspent  uint64 // number of the newest one that is removed

	relations uint64 // indexed so far
	forgotten uint64 // recalled messages that were forgotten
	jobs      uint64 // number of the last job
}

func (x *Index) newBatch() *batch {
	bytes, entries := x.dir.Limits()
	return &batch{
		txn:      x.dir.NewTransaction(true),
		base:     x.dir.NewTransaction(false),
		maxBytes: bytes - 512, // the group, the counters and the state of the log are written last
		maxCount: entries - 8,
		uses:     map[string]map[string]bool{},
		links:    map[string]map[string]bool{},
		waits:    &x.waits, waitChanges: map[string]int{},
		openCascades: x.openCascades.Load(),
		opened:       map[string]uint64{},
		recent:       &x.recent,
		ids:          x.ids,
		secret:       x.secret,
		hashes:       x.hashes,
		counters:     x.counters,
		counted:      x.counters,
		node:         x.node,
		log:          x.log,
		members:      x.members,
	}
}

// reset undoes everything in the batch.
func (b *batch) reset(x *Index) {
	b.discard()
	*b = *x.newBatch()
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
	links    []changedLink
	opened   []openedStep
	indexed  []member           // new messages
	hashes   []uint64           // of them, for the filter of ids
	recalled *recentEvent       // takes the next sequence; nil: the operation makes no recall
	waits    map[string]int     // changes of the counts of waiting recalls
	cascades int64              // that it opens, less those that it ends
	failed   bool               // takes the next position of failed attempts
	spends   bool               // takes the next number of a spend of a limit
	job      bool               // takes the next number of a job
	unspent  uint64             // old ones that it removes
	members  map[string]*Member // nil: as they were
	secret   []byte             // nil: as it was
	forgets  []idHash           // of recalled messages that it erases
	changed  []uint64           // events that it erases, or changes the entry of
}

func (w *writes) reset() {
	*w = writes{
		entries: w.entries[:0],
		uses:    w.uses[:0],
		links:   w.links[:0],
		opened:  w.opened[:0],
		indexed: w.indexed[:0],
		hashes:  w.hashes[:0],
		forgets: w.forgets[:0],
		changed: w.changed[:0],
	}
}

// openedStep is a step of an event that came into a queue of this machine.
type openedStep struct {
	step     string
	sequence uint64
}

type entry struct {
	key    key
	value  []byte
	delete bool
}

// bytes is the size as Badger counts it: with 2 bytes of meta and 10 of version.
func (e *entry) bytes() int64 { return int64(len(e.key) + len(e.value) + 12) }

func (w *writes) bytes() int64 {
	n := int64(0)
	for i := range w.entries {
		n += w.entries[i].bytes()
	}
	for i := range w.indexed {
		n += memberBytes(&w.indexed[i])
	}
	return n
}

func (b *batch) write(w *writes) error {
	for i := range w.entries {
		if err := b.change(&w.entries[i]); err != nil {
			return err
		}
	}
	for _, u := range w.uses {
		ids := b.uses[string(u.attachment)]
		if ids == nil {
			ids = map[string]bool{}
			b.uses[string(u.attachment)] = ids
		}
		ids[u.message] = u.uses
	}
	for _, l := range w.links {
		suffixes := b.links[string(l.prefix)]
		if suffixes == nil {
			suffixes = map[string]bool{}
			b.links[string(l.prefix)] = suffixes
		}
		suffixes[string(l.suffix)] = l.there
		if l.there {
			b.relations++
		}
	}
	for _, o := range w.opened {
		if first, there := b.opened[o.step]; !there || o.sequence < first {
			b.opened[o.step] = o.sequence
		}
	}
	for i := range w.indexed {
		b.group.add(&w.indexed[i])
		b.bytes += memberBytes(&w.indexed[i])
		b.ids.add(w.hashes[i])
	}
	if w.recalled != nil {
		b.sequence++
		b.recalls = append(b.recalls, w.recalled)
	}
	if w.failed {
		b.failures++
	}
	if w.spends {
		b.spent++
	}
	b.unspent += w.unspent
	b.openCascades += w.cascades
	for of, n := range w.waits {
		b.waitChanges[of] += n
	}
	if w.job {
		b.jobs++
	}
	if w.members != nil {
		b.members = w.members
	}
	if w.secret != nil {
		b.secret = w.secret
	}
	for i := range w.forgets {
		b.hashes.add(w.forgets[i].filtered())
	}
	b.forgotten += uint64(len(w.forgets))
	for _, sequence := range w.changed {
		if b.changed == nil {
			b.changed = map[uint64]bool{}
		}
		b.changed[sequence] = true
	}
	return nil
}

// change makes one change of the transaction.
func (b *batch) change(e *entry) error {
	b.bytes += e.bytes()
	b.count++
	if b.sum != nil {
		addToSum(b.sum, e)
	}
	if e.delete {
		return b.txn.Delete(e.key)
	}
	return b.txn.Set(e.key, e.value)
}

// endEntry writes what an entry that changes something has once: its group, at a position, and the counters.
func (b *batch) endEntry(position uint64) error {
	if now := b.counters; now != b.counted {
		value, err := encode(&indexpb.Counter{
			Next: now.sequence + 1, Failures: now.failures, Spent: now.spent, Unspent: now.unspent,
			Relations: now.relations, Forgotten: now.forgotten, Jobs: now.jobs,
		})
		if err == nil {
			err = b.change(&entry{key: sequenceKey, value: value})
		}
		if err != nil {
			return err
		}
		b.counted = now
	}
	if b.group.count == 0 {
		return nil
	}
	value, err := b.group.encode()
	if err == nil {
		err = b.change(&entry{key: groupKey(position), value: value})
	}
	if err != nil {
		return fmt.Errorf("write the group of the entry: %w", err)
	}
	b.group = groupWriter{}
	return nil
}
