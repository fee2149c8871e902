package journal

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
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

	// maxStreamDelay is maxDelay of a log that every node writes to: the settlements of all nodes come to each.
	maxStreamDelay = 20 * time.Millisecond

	// firstBarrier is where the numbers of barriers begin. Nothing has to come before or after a barrier of this process,
	// so its number is none of those by which entries count.
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
	Format   int           // the newest format of entries that this process reads; EntryFormat if it is 0
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
	newest   int // format of entries that this process reads

	onOpen  atomic.Pointer[func(step string, first uint64)]
	onSpend atomic.Pointer[func(*index.Spend)]
	blocked atomic.Pointer[error] // why the next entry cannot be applied now, as on a full disk; nil: it can

	opening atomic.Int64 // what opening the steps of an event writes, see index.OpeningBytes
	format  atomic.Int64 // that entries are written in
	queue   queue        // what is to be sent
	inbox   *inbox       // what is to be applied

	applying   sync.Mutex // held while entries are applied and answered; guards the following
	lastFormat int        // of the last entry of the log, when this process joined

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

// NewReplicated starts the log of an index that follows the log of a stream, see [index.Index.Follow]. It takes the
// index over: Close closes both.
func NewReplicated(x *index.Index, o ReplicatedOptions) *Replicated {
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Patience == 0 {
		o.Patience = DefaultPatience
	}
	if o.Format == 0 {
		o.Format = EntryFormat
	}
	r := &Replicated{
		index: x, stream: o.Stream, logger: o.Logger, node: o.Node, process: newProcess(), patience: o.Patience,
		newest: o.Format, lastFormat: index.OldestOpFormat,
		queue: newQueue(), inbox: newInbox(), sent: map[uint64]*sentEntry{}, retry: make(chan struct{}, 1),
	}
	r.queue.maxDelay = maxStreamDelay
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
// is answered with [shared.ErrUnavailable], and may still be applied. While entries cannot be applied here, as on a
// full disk, calls fail at once.
func (r *Replicated) AppendThen(ops []index.Op, _ bool, then func([]index.Result, error)) {
	err := index.CheckOps(ops)
	if err == nil {
		err = r.hindrance()
	}
	if err != nil {
		then(nil, err)
		return
	}
	isAlone := index.IsWhole(ops)
	for i := range ops {
		if settle := ops[i].Settle; settle != nil {
			settle.Node = r.node
		}
		isAlone = isAlone || ops[i].Join != nil || ops[i].Leave != nil
	}
	parts := [][]index.Op{ops}
	if !isAlone {
		parts = r.split(ops)
	}
	calls := make([]*call, len(parts))
	for i, answer := range joinAnswers(parts, then, r.spent) {
		calls[i] = &call{ops: parts[i], alone: isAlone, answer: answer}
	}
	r.push(calls...)
	r.queue.signal()
}

// push has calls wait, or answers all of them with why they cannot.
func (r *Replicated) push(calls ...*call) {
	for _, c := range calls {
		c.since = time.Now()
		for i := range c.ops {
			c.bytes += r.openingBytes(&c.ops[i])
		}
	}
	if err := r.queue.push(calls...); err != nil {
		for _, c := range calls {
			c.answer(nil, err)
		}
	}
}

// Barrier is [Log]. It goes through the stream: a server that leads no longer and does not know it cannot tell how far
// the stream is.
func (r *Replicated) Barrier(ctx context.Context) error {
	if err := r.hindrance(); err != nil {
		return err
	}
	_, err := await(ctx, func(then func([]index.Result, error)) {
		r.push(&call{answer: then})
		r.queue.signal()
	})
	return err
}

// hindrance is why a call would not be answered now.
func (r *Replicated) hindrance() error {
	if err := r.failure(); err != nil {
		return err
	}
	if err := r.blocked.Load(); err != nil {
		return *err
	}
	return nil
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

// fail ends the log: its index could only go on by differing from those of the others.
func (r *Replicated) fail(err error) {
	r.logger.Error("this node no longer follows the log", "error", err)
	r.stop(err)
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
