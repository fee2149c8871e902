package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/clock"
	"github.com/chat-recall/recall/shared"
)

const (
	// beatsPerLease is how often a node says that it lives.
	beatsPerLease = 6
)

// Beats is what the nodes tell each other besides the log. Nothing of it is kept.
type Beats interface {
	// Send tells all nodes something now. It fails where there is no connection.
	Send(data []byte) error
	// Receive calls hear with everything that a node sends, this one included, until stop is called.
	Receive(hear func(data []byte)) (stop func(), err error)
}

// Beat is what a node says several times in a lease.
type Beat struct {
	Node     string `json:"node"`
	Process  uint64 `json:"process,string"`
	Version  string `json:"version"`       // of its plugin
	Policy   string `json:"policy_digest"` // of the policy in force
	Position uint64 `json:"position"`      // of the last entry that it has applied
	Sum      []byte `json:"sum"`           // of its index there
}

// KeeperOptions configure a [Keeper].
type KeeperOptions struct {
	Log         *Replicated
	Beats       Beats
	Self        index.Member // as it is to join
	Policy      func() string
	Lease       time.Duration // how long a node may be silent before the others declare it gone
	ForgetAfter time.Duration // how long what a node misses is kept for it
	Logger      hclog.Logger  // nil for nothing
	Clock       clock.Clock   // nil for the machine's
}

// Keeper keeps a node in the cluster: it says that the node lives, finds those that are gone, and halts the node if its
// index differs from those of the others. Each node goes by its own monotonic clock. Wall clocks are compared once: a
// process that starts sees by them how long a node is gone, because processes end more often than nodes are forgotten.
type Keeper struct {
	KeeperOptions
	stopHearing func()

	mu     sync.Mutex // guards the following
	heard  map[string]heard
	behind time.Time // since when another node is ahead; zero: none is
}

// heard is the last that was heard of a node.
type heard struct {
	beat Beat
	at   time.Duration
}

// NewKeeper makes a keeper. It hears others from now on, and does nothing before Run.
func NewKeeper(o KeeperOptions) (*Keeper, error) {
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	k := &Keeper{KeeperOptions: o, heard: map[string]heard{}}
	var err error
	k.stopHearing, err = o.Beats.Receive(k.hear)
	return k, err
}

func (k *Keeper) hear(data []byte) {
	var b Beat
	if err := json.Unmarshal(data, &b); err != nil || b.Node == "" || len(b.Node) > shared.MaxNodeBytes {
		k.Logger.Warn("a node says something that this version does not know", "error", err)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.heard[b.Node] = heard{b, k.Clock.Elapsed()}
}

// Heard returns what was last heard of each node.
func (k *Keeper) Heard() map[string]Beat {
	k.mu.Lock()
	defer k.mu.Unlock()
	last := make(map[string]Beat, len(k.heard))
	for node, h := range k.heard {
		last[node] = h.beat
	}
	return last
}

// Join has the node join, see [Replicated.Join]. If its name is that of another machine, it waits whether that one is
// heard: one that is silent for a lease is gone, as after its folder was removed.
func (k *Keeper) Join(ctx context.Context) error {
	for began := k.Clock.Elapsed(); ; {
		now := k.Clock.Elapsed()
		joined, err := k.join(ctx)
		if err == nil {
			return nil
		}
		if !errors.Is(err, ErrElsewhere) || k.wasHeard(k.Log.node) {
			return err
		}
		if now-began >= k.Lease {
			if err := k.leave(ctx, joined, false); err != nil {
				return err
			}
			continue
		}
		k.Logger.Warn("another machine had the name of this node; it is waited whether it lives", "node", k.Log.node)
		select {
		case <-k.Clock.At(now + k.Lease/beatsPerLease):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, ctx.Err())
		}
	}
}

// join has the node join, and says so if the cluster did not know it.
func (k *Keeper) join(ctx context.Context) (index.Member, error) {
	joined, err := k.Log.Join(ctx, k.Self)
	if err != nil {
		return joined, err
	}
	k.Self = joined
	if joined.Since == joined.Epoch {
		k.Logger.Warn("the cluster did not know this node, and has kept nothing that it missed: clients that were connected "+
			"to its server before must load anew what they show", "node", joined.Node)
	}
	return joined, nil
}

func (k *Keeper) wasHeard(node string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, was := k.heard[node]
	return was
}

// Leave ends the membership of the node for good.
func (k *Keeper) Leave(ctx context.Context) error { return k.leave(ctx, k.Self, true) }

func (k *Keeper) leave(ctx context.Context, m index.Member, forget bool) error {
	return k.Log.Leave(ctx, m, k.Clock.Now(), forget)
}

// Lag is how many entries of the log another node had applied, when it was last heard, that this one has not, and since
// when there are any.
func (k *Keeper) Lag() (entries uint64, since time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	position, furthest := k.Log.Position(), uint64(0)
	for _, h := range k.heard {
		furthest = max(furthest, h.beat.Position)
	}
	if furthest <= position {
		k.behind = time.Time{}
		return 0, time.Time{}
	}
	if k.behind.IsZero() {
		k.behind = k.Clock.Now()
	}
	return furthest - position, k.behind
}

// sight is since when a keeper knows something of a member.
type sight struct {
	epoch uint64        // of the member
	first time.Duration // since when it is one of this epoch
	gone  time.Duration // since when it is gone
}

// Close ends that the keeper hears others. It is called after Run has returned, if that was called.
func (k *Keeper) Close() { k.stopHearing() }

// Run keeps the node in the cluster until ctx ends, or the log fails: then it is silent, and the others carry on.
func (k *Keeper) Run(ctx context.Context) {
	seen := map[string]*sight{}
	last := k.Clock.Elapsed()
	since := last // when it began to listen without a break
	for k.Log.failure() == nil {
		now := k.Clock.Elapsed()
		if connected := k.beat() == nil; !connected || now-last > k.Lease/2 {
			since = now // it was cut off, or stopped itself: it cannot tell who was silent
		}
		last = now
		stop := k.goOnBeating()
		err := k.look(ctx, now, since, seen)
		stop()
		if err != nil && ctx.Err() == nil {
			k.Logger.Warn("the members of the cluster are not looked after, which is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-k.Clock.At(now + k.Lease/beatsPerLease):
		}
	}
}

func (k *Keeper) beat() error {
	node, process := k.Log.Node()
	position, sum := k.Log.lastSum()
	data, err := json.Marshal(Beat{
		Node: node, Process: process, Version: k.Self.Version, Policy: k.Policy(), Position: position, Sum: sum,
	})
	if err != nil {
		return err
	}
	return k.Beats.Send(data)
}

// goOnBeating beats until stop is called: what is written to the log takes longer than a lease when a leader is elected
// or when a node that is gone has many steps open.
func (k *Keeper) goOnBeating() (stop func()) {
	tick := time.NewTicker(k.Lease / beatsPerLease)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-tick.C:
				_ = k.beat() // what fails shows at the next look
			case <-done:
				return
			}
		}
	}()
	return func() {
		tick.Stop()
		close(done)
		<-ended
	}
}

// look does what is due for each member.
func (k *Keeper) look(ctx context.Context, now, since time.Duration, seen map[string]*sight) error {
	members, err := k.Log.index.Members()
	if err != nil {
		return err
	}
	if k.differs(members) {
		k.Log.fail(errDiffers)
		return errDiffers
	}
	ctx, cancel := context.WithTimeout(ctx, k.Lease)
	defer cancel()
	me := members[k.Self.Node]
	if me != nil && !me.Gone {
		writer, err := k.Log.index.Writer(me.Node)
		if err != nil {
			return err
		}
		if _, process := k.Log.Node(); writer != process && writer != 0 { // 0: forgotten meanwhile
			k.Log.fail(ErrReplaced) // its beats would keep a node alive that may be gone
			return ErrReplaced
		}
	}
	if me == nil || me.Gone || me.Missed > 0 || k.Log.joining.Load() {
		k.Logger.Warn("this node was taken for gone, or has joined in part only, and joins again")
		_, err := k.join(ctx)
		return err
	}
	maps.DeleteFunc(seen, func(node string, _ *sight) bool { return members[node] == nil })
	k.mu.Lock()
	maps.DeleteFunc(k.heard, func(node string, h heard) bool { return members[node] == nil && now-h.at > k.Lease })
	k.mu.Unlock()
	var errs []error
	for _, node := range slices.Sorted(maps.Keys(members)) {
		if m := members[node]; node != k.Self.Node {
			errs = append(errs, k.judge(ctx, m, now, since, seen))
		}
	}
	return errors.Join(errs...)
}

// judge has a member leave that is silent, and one be forgotten that is gone for too long.
func (k *Keeper) judge(ctx context.Context, m *index.Member, now, since time.Duration, seen map[string]*sight) error {
	s := seen[m.Node]
	if s == nil || s.epoch != m.Epoch { // it has just joined: its first beat may be on its way
		s = &sight{epoch: m.Epoch, first: now, gone: now}
		if m.Gone && !m.GoneAt.IsZero() { // before this process looked
			s.gone -= max(k.Clock.Now().Sub(m.GoneAt), 0)
		}
		seen[m.Node] = s
	}
	if !m.Gone {
		s.gone = now
		k.mu.Lock()
		lives := max(k.heard[m.Node].at, since, s.first)
		k.mu.Unlock()
		if now-lives < k.Lease {
			return nil
		}
		if !k.reachesLog(ctx) { // else this is in the log once it can be reached, whoever lives then
			s.first = k.Clock.Elapsed() - k.Lease + 2*k.Lease/beatsPerLease
			return nil
		}
		k.Logger.Warn("a node is gone; other nodes carry out its open steps", "node", m.Node,
			"silent", (now - lives).String())
		return k.leave(ctx, *m, false)
	}
	if now-s.gone >= k.ForgetAfter {
		k.Logger.Warn("a node is forgotten: it does not get what it missed", "node", m.Node)
		return k.leave(ctx, *m, true)
	}
	if holds, err := k.Log.index.Holds(m.Node); err != nil || !holds {
		return err
	}
	return k.leave(ctx, *m, false) // whoever began it did not come to its end
}

// reachesLog reports whether an entry comes back before the next beat. A node that is connected to a server that is cut
// off hears nobody, and does not know that otherwise.
func (k *Keeper) reachesLog(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, k.Lease/beatsPerLease)
	defer cancel()
	return k.Log.Barrier(ctx) == nil
}

var errDiffers = fmt.Errorf("%w: the index of this node differs from those of most others "+
	"at the same entry of the log; remove its folder, and it is filled anew", shared.ErrUnavailable)

// differs reports whether no fewer nodes differ from this one, where both have been, than agree with it or may do so,
// this one included. Of two that differ, nobody can tell which one is right.
func (k *Keeper) differs(members map[string]*index.Member) bool {
	mayAgree, differ, last := 0, 0, k.Heard()
	for node, m := range members {
		if m.Gone && node != k.Self.Node {
			continue
		}
		b, wasHeard := last[node]
		same, known := k.Log.hadSum(b.Position, b.Sum)
		switch {
		case node == k.Self.Node || !wasHeard || !known || same:
			mayAgree++
		default:
			differ++
			k.Logger.Error("the index of a node differs from this one", "node", node, "entry", b.Position)
		}
	}
	return differ > 0 && differ >= mayAgree
}
