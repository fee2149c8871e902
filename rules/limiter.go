package rules

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/chat-recall/recall/rules/internal/policy"
)

// MaxUnits is how many units a [Limiter] remembers: about 32 MiB at worst.
const MaxUnits = 1 << 18

// Limiter counts the recalls that limits apply to. It outlives any policy: counts belong to the name of a limit, so a
// change of the rules resets nothing. It counts exactly: "20/1m" is at most 20 in any minute, not on average.
//
// The time of a recall is that of its request ([Input.CountedAt]), so a request that waited is counted when it was
// made. Counting is exact for a request that comes within the clock skew of newer ones; older recalls may be forgotten.
// Memory is bounded; over the bound the keys that have been quiet longest are forgotten first. A Limiter is safe for
// concurrent use.
type Limiter struct {
	mu    sync.Mutex
	used  map[limitKey]*usage
	total int      // recalls in used
	base  *Limiter // of a trial
}

// limitKey is a hash of a limit's name and the values of its key, so that long values take no more space than short
// ones.
type limitKey = [sha256.Size]byte

// Unit is what one recall takes of a limit.
type Unit struct {
	Limit [sha256.Size]byte // which count it belongs to: a hash of the limit's name and the values of its key
	At    time.Time         // when it counts, as [Input.CountedAt]
	Kept  time.Duration     // how long it may count
}

// usage is the times of the recalls that may still count, oldest first.
type usage struct {
	at   []time.Time
	kept time.Duration // how long each is remembered
}

// NewLimiter returns a Limiter that has counted nothing.
func NewLimiter() *Limiter {
	return &Limiter{used: map[limitKey]*usage{}}
}

// Trial returns a Limiter that starts from the counts of l and changes nothing in l.
func (l *Limiter) Trial() *Limiter {
	return &Limiter{used: map[limitKey]*usage{}, base: l}
}

// Reservation is one unit of a limit that [Limiter.Reserve] counted. The zero Reservation holds nothing.
type Reservation struct{ unit Unit }

// Unit returns the unit that is reserved, for a Limiter elsewhere or of a later process: see [Limiter.Add]. It returns
// false if the recall takes no unit of any limit.
func (r Reservation) Unit() (Unit, bool) { return r.unit, !r.unit.At.IsZero() }

// Reserve decides like [Policy.Decide] but skips permits whose limit is exhausted. If the decision permits, it reserves
// one unit of the limit. Only committed recalls count: a caller that does not commit the recall calls Cancel.
func (l *Limiter) Reserve(p *Policy, in *Input) (Decision, Reservation) {
	for {
		d, limit := p.compiled.DecideWithin(in, limits{l})
		if limit == nil {
			return d, Reservation{}
		}
		if reservation, ok := l.reserve(limit, in, p.ClockSkew()); ok {
			return d, reservation
		}
		// Another goroutine reserved the last unit in between: decide again.
	}
}

// Cancel returns a reserved unit to its limit. Canceling twice is the same as canceling once.
func (l *Limiter) Cancel(r Reservation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	used := l.used[r.unit.Limit]
	if used == nil {
		return
	}
	if i := slices.IndexFunc(used.at, r.unit.At.Equal); i >= 0 {
		used.at = slices.Delete(used.at, i, i+1)
		l.total--
	}
	if len(used.at) == 0 {
		delete(l.used, r.unit.Limit)
	}
}

// Add counts a unit that was taken elsewhere, or in an earlier process, even if the limit is exhausted.
func (l *Limiter) Add(u Unit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if used := l.used[u.Limit]; used != nil {
		u.Kept = max(u.Kept, used.kept)
	}
	l.add(u)
}

// limits is a Limiter as [policy.Limits].
type limits struct{ *Limiter }

// Free implements [policy.Limits].
func (l limits) Free(limit *policy.Limit, in *Input) (at time.Time, ok bool) {
	key := keyOf(limit, in)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.freeAt(key, limit, in.LimitTime())
}

// usageOf returns the recalls counted for a key, nil if there are none. A trial has a copy of them.
func (l *Limiter) usageOf(key limitKey) *usage {
	if l.base != nil && l.used[key] == nil {
		l.base.mu.Lock()
		defer l.base.mu.Unlock()
		if used := l.base.used[key]; used != nil {
			l.used[key] = &usage{slices.Clone(used.at), used.kept}
		}
	}
	return l.used[key]
}

func (l *Limiter) freeAt(key limitKey, limit *policy.Limit, now time.Time) (at time.Time, ok bool) {
	used := l.usageOf(key)
	if used == nil {
		return now, true
	}
	// A request that waited, or whose clock is behind, can have newer recalls after it. Where count of them and this one
	// would lie within one period, it has to wait until the first of them is a period old.
	at = now
	counting := used.at[since(used.at, now.Add(-limit.Per)):]
	for i := limit.Count - 1; i < len(counting); i++ {
		first, last := counting[i-limit.Count+1], counting[i]
		if last.Sub(first) < limit.Per && at.Sub(first) < limit.Per && last.Sub(at) < limit.Per {
			at = first.Add(limit.Per)
		}
	}
	return at, at.Equal(now)
}

func (l *Limiter) reserve(limit *policy.Limit, in *Input, skew time.Duration) (Reservation, bool) {
	key, now := keyOf(limit, in), in.LimitTime()
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.freeAt(key, limit, now); !ok {
		return Reservation{}, false
	}
	u := Unit{key, now, limit.Per + skew} // the clock of the next request may be behind
	l.add(u)
	return Reservation{u}, true
}

// add counts a unit. It is called with mu held.
func (l *Limiter) add(u Unit) {
	used := l.used[u.Limit]
	if used == nil {
		used = &usage{}
		l.used[u.Limit] = used
	}
	used.kept = u.Kept
	old := since(used.at, u.At.Add(-used.kept))
	used.at = slices.Delete(used.at, 0, old)
	// A request that waited can be older than a recall that was counted before it.
	used.at = slices.Insert(used.at, since(used.at, u.At), u.At)
	if l.total += 1 - old; l.total > MaxUnits {
		l.forget(u.At)
	}
}

// forget drops the keys that no longer count, then those that have been quiet longest, until a quarter of the space is
// free.
func (l *Limiter) forget(now time.Time) {
	type quiet struct {
		key  limitKey
		last time.Time
	}
	var left []quiet
	for key, used := range l.used {
		last := used.at[len(used.at)-1]
		if !last.After(now.Add(-used.kept)) {
			l.drop(key)
			continue
		}
		left = append(left, quiet{key, last})
	}
	slices.SortFunc(left, func(a, b quiet) int { return a.last.Compare(b.last) })
	for _, q := range left {
		if l.total <= MaxUnits/4*3 {
			return
		}
		l.drop(q.key)
	}
}

func (l *Limiter) drop(key limitKey) {
	l.total -= len(l.used[key].at)
	delete(l.used, key)
}

// since returns how many of the times are not after t.
func since(at []time.Time, t time.Time) int {
	i, _ := slices.BinarySearchFunc(at, t, func(a, b time.Time) int {
		if a.After(b) {
			return 1
		}
		return -1
	})
	return i
}

// keyOf returns the key of an input. It always includes the tenant, so one tenant never uses up the limit of another.
func keyOf(l *policy.Limit, in *Input) limitKey {
	h := sha256.New()
	var size [8]byte
	put := func(s string) {
		binary.BigEndian.PutUint64(size[:], uint64(len(s)))
		h.Write(size[:])
		h.Write([]byte(s))
	}
	put(l.Name)
	put(in.Tenant)
	for _, f := range l.Key {
		put(f.Name)
		put(f.Text(in))
	}
	return limitKey(h.Sum(nil))
}
