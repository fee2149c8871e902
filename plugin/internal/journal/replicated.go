package journal

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/shared"
)

const (
	// maxSent is how many entries of a process are on their way. More would not be faster: an entry gathers what waits.
	maxSent = 8

	// maxStreamEntryBytes is for how many bytes calls are put together in an entry. Servers of NATS take 1 MiB.
	maxStreamEntryBytes = 256 << 10

	// firstBarrier is where the numbers of barriers begin, which are not kept track of.
	firstBarrier = 1 << 63

	publishTimeout = 3 * time.Second
	publishRetry   = 50 * time.Millisecond // doubled with each further one, to
	publishSlowest = time.Second

	// applyRetry is how long an entry that cannot be applied, as on a full disk, is left alone.
	applyRetry = 200 * time.Millisecond

	// DefaultPatience is how long a call waits for its entry to come back.
	DefaultPatience = 30 * time.Second
)

// ErrReplaced says that another process writes for this node.
var ErrReplaced = fmt.Errorf("%w: another process has joined the cluster as this node", shared.ErrUnavailable)

// errEarly is why an entry is sent again that is in the stream.
var errEarly = errors.New("it came before an entry that failed")

// ReplicatedOptions configure a [Replicated].
type ReplicatedOptions struct {
	Node     string
	Stream   Stream
	Logger   hclog.Logger  // nil for nothing
	Patience time.Duration // DefaultPatience if it is 0
}

// Replicated is the log of a node of a cluster. What is appended goes to a stream, which every node applies to its own
// index, and is answered when it comes back: the one that is first in the stream wins, and a caller reads what it
// wrote.
type Replicated struct {
	index    *index.Index
	stream   Stream
	logger   hclog.Logger
	node     string
	process  uint64
	patience time.Duration

	onOpen atomic.Pointer[func(step string, first uint64)]

	opening  atomic.Int64 // what opening the steps of an event writes, see index.OpeningBytes
	queue    queue        // what is to be sent
	inbox    *inbox       // what is to be applied
	applying sync.Mutex

	position, entries, retries atomic.Uint64
	sums                       sums
	joining                    atomic.Bool // a Join has begun, and is not through

	ctx     context.Context // ends when the log is closed, or has failed
	stop    context.CancelCauseFunc
	running sync.WaitGroup

	mu       sync.Mutex // guards the following
	room     *sync.Cond // there may be room for one more entry, or the log has ended
	number   uint64     // of the last entry that has calls: each of them is in the stream some day
	barriers uint64     // number of the last barrier
	sent     map[uint64]*sentEntry
	failed   bool // an entry failed, or came early

	retry chan struct{} // one token: failed is set
}

var _ Log = (*Replicated)(nil)

// sentEntry is an entry that has not come back yet.
type sentEntry struct {
	number uint64
	data   []byte
	calls  []*call

	// Of whoever publishes it, one after the other.
	tries int   // that failed
	err   error // why the last one did, until retryLoop has seen it
}

// NewReplicated starts the log of an index that follows the log of a stream, see [index.Index.Follow]. It takes the
// index over: Close closes both.
func NewReplicated(x *index.Index, o ReplicatedOptions) *Replicated {
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Patience == 0 {
		o.Patience = DefaultPatience
	}
	r := &Replicated{
		index: x, stream: o.Stream, logger: o.Logger, node: o.Node, process: newProcess(), patience: o.Patience,
		queue: newQueue(), inbox: newInbox(), sent: map[uint64]*sentEntry{}, retry: make(chan struct{}, 1),
	}
	r.room = sync.NewCond(&r.mu)
	r.barriers = firstBarrier
	r.ctx, r.stop = context.WithCancelCause(context.Background())
	begin := x.Log()
	after := begin.Position
	r.position.Store(after)
	r.sums.add(begin)
	r.weigh()
	r.running.Go(r.endLoop)
	r.running.Go(r.sendLoop)
	r.running.Go(r.retryLoop)
	r.running.Go(func() { r.followLoop(after) })
	r.running.Go(r.applyLoop)
	r.running.Go(r.expireLoop)
	return r
}

// newProcess is a random number, and not 0.
func newProcess() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.BigEndian.Uint64(b[:]) | 1
}

// Append is [Log]. See [Replicated.AppendThen] for what is not one entry. When ctx ends Append returns, and the
// operations may still be applied.
func (r *Replicated) Append(ctx context.Context, ops []index.Op) ([]index.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return await(ctx, func(then func([]index.Result, error)) { r.AppendThen(ops, false, then) })
}

// AppendThen is [Log]. It names this node in settlements. A call that is too large for one entry and is not atomic
// becomes several, and between those may be what others write. A call that is not answered for the patience of the log
// is answered with [shared.ErrUnavailable], and may still be applied.
func (r *Replicated) AppendThen(ops []index.Op, _ bool, then func([]index.Result, error)) {
	err := index.CheckOps(ops)
	if err == nil {
		err = r.failure()
	}
	if err != nil {
		then(nil, err)
		return
	}
	isAlone := false
	for i := range ops {
		if settle := ops[i].Settle; settle != nil {
			settle.Node = r.node
		}
		isAlone = isAlone || ops[i].Join != nil || ops[i].Leave != nil || ops[i].Recall != nil && ops[i].Recall.Atomic
	}
	parts := [][]index.Op{ops}
	if !isAlone {
		parts = r.split(ops)
	}
	answers := joinAnswers(len(parts), then)
	for i := range parts {
		r.push(&call{ops: parts[i], alone: isAlone, answer: answers[i]})
	}
	r.queue.signal()
}

// split cuts operations into parts that fit in an entry each. A single operation may be larger.
func (r *Replicated) split(ops []index.Op) (parts [][]index.Op) {
	first, bytes := 0, 0
	for i := range ops {
		size := ops[i].Bytes() + r.openingBytes(&ops[i])
		if i > first && bytes+size > maxStreamEntryBytes {
			parts = append(parts, ops[first:i])
			first, bytes = i, 0
		}
		bytes += size
	}
	return append(parts, ops[first:])
}

// openingBytes is what an operation may write because it opens steps on every node. An entry has to fit in one
// transaction of each of them.
func (r *Replicated) openingBytes(op *index.Op) int {
	if op.Recall == nil && op.Settle == nil && op.Ungate == nil {
		return 0
	}
	return int(r.opening.Load())
}

// weigh finds out what opening the steps of an event writes, by the members that there are now.
func (r *Replicated) weigh() {
	members, err := r.index.Members()
	if err != nil { // which the next read of the index tells, too
		r.logger.Warn("the members of the cluster cannot be read", "error", err)
		return
	}
	r.opening.Store(int64(index.OpeningBytes(members)))
}

// joinAnswers returns a function for each of n parts of a call. They call then once, when all were called: with the
// results of all, or the error of the first part that has one.
func joinAnswers(n int, then func([]index.Result, error)) []func([]index.Result, error) {
	if n == 1 {
		return []func([]index.Result, error){then}
	}
	var mu sync.Mutex
	left, results, errs := n, make([][]index.Result, n), make([]error, n)
	answers := make([]func([]index.Result, error), n)
	for i := range answers {
		answers[i] = func(part []index.Result, err error) {
			mu.Lock()
			results[i], errs[i] = part, err
			left--
			last := left == 0
			mu.Unlock()
			if !last {
				return
			}
			for _, err := range errs {
				if err != nil {
					then(nil, err)
					return
				}
			}
			then(slices.Concat(results...), nil)
		}
	}
	return answers
}

func (r *Replicated) push(c *call) {
	c.since = time.Now()
	for i := range c.ops {
		c.bytes += r.openingBytes(&c.ops[i])
	}
	if err := r.queue.push(c); err != nil {
		c.answer(nil, err)
	}
}

// Barrier is [Log]. It goes through the stream: a server that leads no longer and does not know it cannot tell how far
// the stream is.
func (r *Replicated) Barrier(ctx context.Context) error {
	if err := r.failure(); err != nil {
		return err
	}
	_, err := await(ctx, func(then func([]index.Result, error)) {
		r.push(&call{answer: then})
		r.queue.signal()
	})
	return err
}

// failure is why the log answers no more.
func (r *Replicated) failure() error {
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	return r.index.Failure()
}

// Node is the name of this node, and Process that of this process.
func (r *Replicated) Node() (name string, process uint64) { return r.node, r.process }

// Position is how far the stream is applied here.
func (r *Replicated) Position() uint64 { return r.position.Load() }

// Counts returns how many entries of the stream were applied, and how often an entry was sent again, since the log was
// started.
func (r *Replicated) Counts() (applied, retries uint64) { return r.entries.Load(), r.retries.Load() }

// OnOpen is [Log].
func (r *Replicated) OnOpen(f func(step string, first uint64)) { r.onOpen.Store(&f) }

// Flush is [Log].
func (r *Replicated) Flush(ctx context.Context) error { return r.index.Flush(ctx, &r.applying) }

// Progress is [Log]. What waits for the other nodes is not stuck here.
func (r *Replicated) Progress() (waiting int, done uint64) {
	reading, done := r.index.Progress()
	return r.inbox.len() + reading, r.entries.Load() + done
}

// Stats is [Log].
func (r *Replicated) Stats() (s Stats) {
	s.QueueCalls, s.QueueBytes, s.Overloads = r.queue.stats()
	return s
}

// sendLoop puts what waits into entries and sends them.
func (r *Replicated) sendLoop() {
	for r.queue.wait() {
		if !r.waitForRoom() {
			for _, c := range r.queue.take(maxEntryBytes) {
				c.answer(nil, r.failure())
			}
			continue
		}
		r.queue.gather()
		if group := r.queue.take(maxStreamEntryBytes); len(group) > 0 {
			r.send(group)
		}
	}
}

// waitForRoom waits until one more entry may be on its way; false: the log has ended.
func (r *Replicated) waitForRoom() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.ctx.Err() == nil && len(r.sent) >= maxSent {
		r.room.Wait()
	}
	return r.ctx.Err() == nil
}

// send sends calls as one entry. A call without operations is a barrier, and is not in it.
func (r *Replicated) send(group []*call) {
	e := index.LogEntry{Node: r.node, Process: r.process}
	for _, c := range group {
		if len(c.ops) > 0 {
			e.Calls = append(e.Calls, c.ops)
		}
	}
	last := &r.number
	if len(e.Calls) == 0 {
		last = &r.barriers
	}
	e.Number = *last + 1
	data, err := encodeEntry(&e)
	switch {
	case err != nil && len(group) > 1: // alone, each fails for itself only
		for i := range group {
			if !r.waitForRoom() {
				r.answer(group[i:], nil, r.failure())
				return
			}
			r.send(group[i : i+1])
		}
		return
	case err != nil:
		r.answer(group, nil, err)
		return
	}
	sent := &sentEntry{number: e.Number, data: data, calls: group}
	r.mu.Lock()
	ended := r.ctx.Err() != nil
	if !ended {
		*last = e.Number
		r.sent[sent.number] = sent
	}
	r.mu.Unlock()
	if ended {
		r.answer(group, nil, r.failure())
		return
	}
	r.publish(sent)
}

// endLoop ends what waits once the log has ended.
func (r *Replicated) endLoop() {
	<-r.ctx.Done()
	r.inbox.close()
	r.mu.Lock()
	r.room.Broadcast()
	var waiting []*call
	for number, e := range r.sent {
		waiting = append(waiting, e.calls...)
		delete(r.sent, number)
	}
	r.mu.Unlock()
	r.answer(waiting, nil, r.failure())
}

// publish puts an entry into the stream. If that fails, it is sent again.
func (r *Replicated) publish(e *sentEntry) {
	ctx, cancel := context.WithTimeout(r.ctx, publishTimeout)
	r.stream.Publish(ctx, e.data, func(err error) {
		cancel()
		if err != nil {
			r.sendAgain(e.number, err)
		}
	})
}

// sendAgain has everything on its way be sent again, because an entry failed, or came before one that failed.
func (r *Replicated) sendAgain(number uint64, because error) {
	r.mu.Lock()
	if e := r.sent[number]; e != nil { // else an earlier copy of it was taken
		e.err = because
		e.tries++
		r.failed = true
	}
	r.mu.Unlock()
	select {
	case r.retry <- struct{}{}:
	default:
	}
}

// retryLoop sends entries again. They count in the order of their numbers, so what was sent after one that failed has
// to be sent after it again. Copies of what was taken do no harm.
func (r *Replicated) retryLoop() {
	var due <-chan time.Time
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-r.retry:
			if wait, failed := r.takeFailed(); failed && due == nil {
				due = time.After(wait)
			}
		case <-due:
			due = nil
			for _, e := range r.onTheirWay() {
				r.retries.Add(1)
				r.publish(e)
			}
		}
	}
}

// takeFailed reports whether an entry failed since the last call, and how long to wait before they are sent again.
func (r *Replicated) takeFailed() (wait time.Duration, failed bool) {
	r.mu.Lock()
	failed, r.failed = r.failed, false
	tries := 0
	var large []*sentEntry
	for _, e := range r.sent {
		if errors.Is(e.err, ErrTooLarge) {
			large = append(large, e)
		} else if e.tries == 1 && e.err != nil {
			r.logger.Warn("an entry could not be put into the log, and is sent again", "number", e.number, "error", e.err)
		}
		tries, e.err = max(tries, e.tries), nil
	}
	r.mu.Unlock()
	for _, e := range large {
		r.empty(e)
	}
	return min(publishRetry<<min(max(tries-1, 0), 10), publishSlowest), failed
}

// onTheirWay are the entries that did not come back, in the order of their numbers.
func (r *Replicated) onTheirWay() []*sentEntry {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*sentEntry
	for _, number := range slices.Sorted(maps.Keys(r.sent)) {
		all = append(all, r.sent[number])
	}
	return all
}

// empty makes an entry that no server takes one of nothing, so that it leaves no gap in the numbers, and answers its
// call. It has one: several are only put together up to a size that every server takes.
func (r *Replicated) empty(e *sentEntry) {
	void := index.LogEntry{Node: r.node, Process: r.process, Number: e.number, Calls: [][]index.Op{nil}}
	data, err := encodeEntry(&void)
	if err != nil {
		r.fail(err)
		return
	}
	r.mu.Lock()
	var calls []*call
	if r.sent[e.number] == e { // else an earlier copy of it was taken
		calls, e.calls = e.calls, nil
	}
	size := len(e.data)
	e.data = data
	r.mu.Unlock()
	r.answer(calls, nil, shared.Invalidf("targets", "make an entry of %d bytes: %v", size, ErrTooLarge))
}

// take ends that an entry is on its way, and returns its calls; none if it is not.
func (r *Replicated) take(number uint64) []*call {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.sent[number]
	if e == nil {
		return nil
	}
	delete(r.sent, number)
	r.room.Signal()
	return e.calls
}

// answer answers calls: those with operations with an answer each, or all of them with an error.
func (r *Replicated) answer(calls []*call, answers []index.Answer, err error) {
	for _, c := range calls {
		switch {
		case err != nil:
			c.answer(nil, err)
		case len(c.ops) == 0:
			c.answer(nil, nil)
		default:
			c.answer(answers[0].Results, answers[0].Refused)
			answers = answers[1:]
		}
	}
}

// followLoop reads the stream.
func (r *Replicated) followLoop(after uint64) {
	for r.ctx.Err() == nil {
		err := r.stream.Follow(r.ctx, after, func(position uint64, data []byte) error {
			e, err := r.read(position, data, after)
			if err != nil {
				r.fail(err)
				return err
			}
			after = position
			r.inbox.put(e, len(data))
			return r.ctx.Err()
		})
		if r.ctx.Err() != nil {
			return
		}
		r.logger.Warn("the log is not read, which is tried again", "after", after, "error", err)
		select {
		case <-time.After(applyRetry):
		case <-r.ctx.Done():
		}
	}
}

// read decodes an entry. What this node cannot apply it must not leave out: then its index would differ from that of
// the others for ever.
func (r *Replicated) read(position uint64, data []byte, after uint64) (index.LogEntry, error) {
	if position != after+1 {
		return index.LogEntry{}, fmt.Errorf("%w: it goes on with entry %d after entry %d; the index begins anew from a "+
			"snapshot when the plugin is started again", ErrTrimmed, position, after)
	}
	e, err := decodeEntry(data)
	switch {
	case errors.Is(err, index.ErrNewer):
		return e, fmt.Errorf("%w: entry %d of the log: %w; upgrade the plugin of this node", shared.ErrUnavailable,
			position, err)
	case err != nil:
		return e, fmt.Errorf("%w: entry %d of the log: %w", shared.ErrUnavailable, position, err)
	}
	e.Position = position
	return e, nil
}

// fail ends the log: its index could only go on by differing from those of the others.
func (r *Replicated) fail(err error) {
	r.logger.Error("this node no longer follows the log", "error", err)
	r.stop(err)
}

// applyLoop applies what was read, many entries at once where they are there.
func (r *Replicated) applyLoop() {
	for {
		entries := r.inbox.take()
		if entries == nil {
			return
		}
		for len(entries) > 0 && r.ctx.Err() == nil {
			entries = entries[r.apply(entries):]
		}
	}
}

// apply applies the first of some entries, and tells how many.
func (r *Replicated) apply(entries []index.LogEntry) int {
	r.applying.Lock()
	applied, err := r.index.ApplyLog(entries)
	r.applying.Unlock()
	switch {
	case err == nil:
	case r.index.Failure() != nil || errors.Is(err, index.ErrTooLarge):
		r.fail(fmt.Errorf("%w: apply the log: %w", shared.ErrUnavailable, err))
		return 0
	default:
		r.logger.Error("the log cannot be applied, which is tried again", "entry", entries[0].Position, "error", err)
		select {
		case <-time.After(applyRetry):
		case <-r.ctx.Done():
		}
		return 0
	}
	if slices.ContainsFunc(entries[:len(applied)], changesMembers) {
		r.weigh()
	}
	for i := range applied {
		r.applied(&entries[i], &applied[i])
	}
	r.index.ZeroAhead()
	return len(applied)
}

// changesMembers reports whether an entry may change the members of the cluster.
func changesMembers(e index.LogEntry) bool {
	return slices.ContainsFunc(e.Calls, func(ops []index.Op) bool {
		return slices.ContainsFunc(ops, func(op index.Op) bool { return op.Join != nil || op.Leave != nil })
	})
}

// applied answers the calls of an entry, if it is of this process, and tells of the steps that it opened.
func (r *Replicated) applied(e *index.LogEntry, a *index.Applied) {
	r.position.Store(e.Position)
	r.entries.Add(1)
	if a.Sum != ([sha256.Size]byte{}) {
		r.sums.add(index.Log{Position: e.Position, Sum: a.Sum})
	}
	switch isOwn := e.Node == r.node && e.Process == r.process; {
	case isOwn && a.Early:
		r.sendAgain(e.Number, errEarly)
	case isOwn && !a.Dropped:
		r.answer(r.take(e.Number), a.Answers, nil)
	case isOwn: // nobody waits for a copy
		r.answer(r.take(e.Number), nil, ErrReplaced)
	}
	if f := r.onOpen.Load(); f != nil {
		for step, first := range a.Opened {
			(*f)(step, first)
		}
	}
}

// expireLoop answers the calls that wait for too long.
func (r *Replicated) expireLoop() {
	tick := time.NewTicker(r.patience / 20)
	defer tick.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-tick.C:
		}
		before := time.Now().Add(-r.patience)
		err := fmt.Errorf("%w: the log has not answered for %s", shared.ErrUnavailable, r.patience)
		for _, c := range append(r.queue.expire(before), r.expireSent(before)...) {
			c.answer(nil, err)
		}
	}
}

// expireSent returns the calls of entries on their way that began to wait before a moment. Their entries go on.
func (r *Replicated) expireSent(before time.Time) (expired []*call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.sent {
		for i, c := range e.calls {
			if c.since.Before(before) {
				expired = append(expired, &call{answer: c.answer})
				e.calls[i] = &call{ops: c.ops, answer: func([]index.Result, error) {}, since: time.Now()}
			}
		}
	}
	return expired
}

// Close is [Log]. It waits for what is on its way, for as long as it takes to publish an entry.
func (r *Replicated) Close() error {
	r.queue.close()
	for end := time.Now().Add(publishTimeout); r.isWaiting() && time.Now().Before(end) && r.ctx.Err() == nil; {
		time.Sleep(time.Millisecond)
	}
	r.stop(errClosed)
	r.running.Wait()
	return r.index.Close()
}

func (r *Replicated) isWaiting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sent) > 0 || !r.queue.empty()
}
