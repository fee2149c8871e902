package index

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/plugin/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// Append is Log. A call is one transaction if its writes fit half of one (about 1.2 MB at the default memtable: a
// thousand messages of the usual size); a larger one is several in a row with nothing between, each of whole
// operations, and a crash among them leaves the first. When ctx ends Append returns, and the operations may still be
// applied. An error that is none of shared.ErrInvalid and shared.ErrOverloaded leaves open whether they were.
func (x *Index) Append(ctx context.Context, ops []Op) ([]Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return x.await(ctx, &call{ops: ops})
}

// await appends a call and waits for its answer.
func (x *Index) await(ctx context.Context, c *call) (results []Result, err error) {
	type answer struct {
		results []Result
		err     error
	}
	answers := make(chan answer, 1)
	c.answer = func(results []Result, err error) { answers <- answer{results, err} }
	x.append(c, false)
	select {
	case a := <-answers:
		return a.results, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// AppendThen is Log.
func (x *Index) AppendThen(ops []Op, alone bool, then func([]Result, error)) {
	x.append(&call{ops: ops, answer: then}, alone)
}

// append leaves a call to the committer. One that is alone is committed here, where nobody commits: it saves two waits
// for another goroutine (bench speed: p50 of one caller 0.9 ×).
func (x *Index) append(c *call, alone bool) {
	for i := range c.ops {
		if err := c.ops[i].check(); err != nil {
			c.answer(nil, fmt.Errorf("operation %d: %w", i, err))
			return
		}
	}
	if err := x.Failure(); err != nil {
		c.answer(nil, err)
		return
	}
	alone = alone && x.committing.TryLock()
	if alone {
		defer x.committing.Unlock()
	}
	if err := x.queue.push(c); err != nil {
		c.answer(nil, err)
		return
	}
	if alone {
		x.commitNext()
	}
	if !alone || !x.queue.empty() {
		x.queue.signal()
	}
}

// commitLoop is the committer.
func (x *Index) commitLoop() {
	for x.queue.wait() {
		x.committing.Lock()
		x.queue.gather()
		x.commitNext()
		x.committing.Unlock()
	}
}

// commitNext commits the next group of calls. It is called with committing held.
func (x *Index) commitNext() {
	group := x.queue.take()
	x.taken.Store(int64(len(group)))
	x.answerGroup(group)
	x.taken.Store(0)
	x.groups.Add(1)
	x.dir.ZeroAhead()
}

// answerGroup applies and answers calls.
func (x *Index) answerGroup(group []*call) {
	rest, err := x.commitGroup(group)
	switch {
	case err == nil:
	case len(rest) == 1 || x.Failure() != nil:
		for _, c := range rest {
			c.answer(nil, err)
		}
	default: // One of them cannot be applied, or there is no room for what they write. Alone, each fails for itself only.
		for _, c := range rest {
			if _, err := x.commitGroup([]*call{c}); err != nil {
				c.answer(nil, err)
			}
		}
	}
}

// commitGroup applies calls and answers each once it is on disk. After an error rest are those not answered.
func (x *Index) commitGroup(group []*call) (rest []*call, err error) {
	results, refusals := make([][]Result, len(group)), make([]error, len(group))
	applied, answered := 0, 0
	b := x.newBatch()
	defer func() { b.discard() }()
	next := func() error {
		if err := x.commit(b); err != nil {
			return err
		}
		for ; answered < applied; answered++ {
			group[answered].answer(results[answered], refusals[answered])
		}
		// After the answers: whoever delivers an event must not take a core from a caller who waits for one.
		if f := x.onOpen.Load(); f != nil {
			for step, first := range b.opened {
				(*f)(step, first)
			}
		}
		b.discard()
		b = x.newBatch()
		return nil
	}
	var w writes // one for all: Badger keeps keys and values, and not the list of them
	write := func() error {
		if len(w.entries) > 0 {
			if err := x.dir.Writable(); err != nil {
				return err
			}
		}
		if !b.fits(&w) {
			if err := next(); err != nil {
				return err
			}
		}
		return b.write(&w)
	}
	for i, c := range group {
		if b.halfFull() {
			if err := next(); err != nil {
				return group[answered:], err
			}
		}
		err := x.dir.Guard(func() error { return b.refused(c.ops) })
		if errors.Is(err, shared.ErrInvalid) { // none of its operations is applied; the others go on
			refusals[i], applied = err, i+1
			continue
		}
		if err != nil {
			return group[answered:], err
		}
		results[i] = make([]Result, len(c.ops))
		atomic := isAtomic(c.ops)
		if atomic && b.count > 0 { // it has a transaction of its own, which is dropped if it cannot be applied whole
			if err := next(); err != nil {
				return group[answered:], err
			}
		}
		for j := range c.ops {
			w.reset()
			err := x.dir.Guard(func() (err error) {
				results[i][j], err = b.plan(&c.ops[j], &w)
				return err
			})
			if err != nil {
				return group[answered:], fmt.Errorf("apply operation %d: %w", j, err)
			}
			if atomic && !b.fits(&w) {
				refusals[i] = shared.Invalidf("targets", "the facts of the messages are too large for one atomic request; "+
					"send fewer targets")
				break
			}
			if err := write(); err != nil {
				return group[answered:], fmt.Errorf("apply operation %d: %w", j, err)
			}
			b.ops++
		}
		if atomic && (refusals[i] != nil || abort(results[i])) {
			b.discard()
			b = x.newBatch()
		}
		if c.padding > 0 {
			w.reset()
			w.entries = append(w.entries, entry{key: paddingKey, value: make([]byte, c.padding)})
			if err := write(); err != nil {
				return group[answered:], err
			}
		}
		applied++
	}
	err = next()
	return group[answered:], err
}

func isAtomic(ops []Op) bool {
	return slices.ContainsFunc(ops, func(op Op) bool { return op.Recall != nil && op.Recall.Atomic })
}

// abort tells whether one of these atomic recalls cannot be applied, and says so of the others.
func abort(results []Result) bool {
	if !slices.ContainsFunc(results, func(r Result) bool { return r.Stale || r.OtherActor }) {
		return false
	}
	for i := range results {
		if results[i].New {
			results[i] = Result{Aborted: true}
		}
	}
	return true
}

// commit puts a batch on disk.
func (x *Index) commit(b *batch) error {
	if err := x.Failure(); err != nil || b.count == 0 {
		return err
	}
	if b.sequence != x.sequence || b.failures != x.failures {
		if err := set(b.txn, sequenceKey, &indexpb.Counter{Next: b.sequence + 1, Failures: b.failures}); err != nil {
			return err
		}
	}
	if b.group.count > 0 {
		data, err := b.group.encode()
		if err == nil {
			err = b.txn.Set(groupKey(x.dir.Version()+1), data)
		}
		if err != nil {
			return fmt.Errorf("write the group of the commit: %w", err)
		}
	}
	if err := x.commitTxn(b.txn); err != nil {
		return err
	}
	x.sequence, x.failures = b.sequence, b.failures
	x.recent.add(b.recalls)
	x.lastSequence.Store(b.sequence)
	x.lastFailure.Store(b.failures)
	x.commits.Add(1)
	x.operations.Add(uint64(b.ops))
	return nil
}

// batch is one transaction in the making.
type batch struct {
	txn  *badger.Txn // reads of it see its writes
	base *badger.Txn // what was before it: iterators over txn would sort all of its writes each time

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
		maxBytes: bytes - 256, // the group and the sequence are written last
		maxCount: entries - 3,
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

func (b *batch) halfFull() bool { return b.bytes > b.maxBytes/2 || b.count > b.maxCount/2 }

func (b *batch) fits(w *writes) bool {
	return b.bytes+w.bytes() < b.maxBytes && b.count+int64(len(w.entries)) < b.maxCount
}

// writes are what one operation changes. They are planned before any is made, so an operation that does not fit into
// a transaction goes whole into the next.
type writes struct {
	entries  []entry
	uses     []changedUse
	opened   []string // steps, of the event openedOf
	openedOf uint64
	indexed  []member     // new messages
	hashes   []uint64     // of them, for the filter of ids
	recalled *recentEvent // it takes the next sequence; nil: the operation makes no recall
	failed   bool         // it takes the next position of failed attempts
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

// bytes is the size by which Badger counts: 2 bytes of meta and 10 of version an entry.
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
