package rules

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"time"
)

// maxRemembered bounds the recalls that a Limiter remembers: about 32 MiB at worst.
const maxRemembered = 1 << 18

// Limiter counts the recalls that limits are about. It outlives any policy: counts go by the name of the limit, so a
// change of the rules forgets nothing. It counts exactly: "20/1m" is at most 20 in any minute, not on average.
//
// Moments are those of the requests (Input.CountedAt), so that what waited is judged by when it was made. That is exact
// for one that comes within the clock skew of newer ones; of what is older, some may be forgotten. Memory is bounded;
// over the bound what has been quiet longest is forgotten first. Any number of goroutines may use it.
type Limiter struct {
	mu    sync.Mutex
	spent map[limitKey]*spending
	total int
	real  *Limiter // of a trial
}

// limitKey is a hash of a limit's name and the values of its key, so that long values take no more room than short.
type limitKey [sha256.Size]byte

// spending is the moments of the recalls that may still count, oldest first.
type spending struct {
	at   []time.Time
	kept time.Duration // how long each is remembered
}

// NewLimiter returns a Limiter that has counted nothing.
func NewLimiter() *Limiter {
	return &Limiter{spent: map[limitKey]*spending{}}
}

// Trial returns a Limiter that starts from what l has counted, and changes nothing of it.
func (l *Limiter) Trial() *Limiter {
	return &Limiter{spent: map[limitKey]*spending{}, real: l}
}

// Spend is a recall that a Limiter counts. The zero Spend counts nothing.
type Spend struct {
	key limitKey
	at  time.Time
}

// Take judges in as p.Decide does, holds a permit whose limit has no room for not holding, and counts the recall if
// it is permitted. A caller that then does not commit the recall gives it back with Refund: only what is committed
// counts.
func (l *Limiter) Take(p *Policy, in *Input) (Decision, Spend) {
	for {
		d := p.decide(in, l)
		if d.limit == nil {
			return d, Spend{}
		}
		if spend, ok := l.take(d.limit, in, p.clockSkew); ok {
			return d, spend
		}
		// Somebody else took the last room between the two: decide again.
	}
}

// Refund gives back what Take counted.
func (l *Limiter) Refund(s Spend) {
	l.mu.Lock()
	defer l.mu.Unlock()
	spent := l.spent[s.key]
	if spent == nil {
		return
	}
	if i := slices.IndexFunc(spent.at, s.at.Equal); i >= 0 {
		spent.at = slices.Delete(spent.at, i, i+1)
		l.total--
	}
	if len(spent.at) == 0 {
		delete(l.spent, s.key)
	}
}

// room implements rooms.
func (l *Limiter) room(limit *limit, in *Input) (at time.Time, ok bool) {
	key := limit.keyOf(in)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.roomAt(key, limit, in.countedAt())
}

// spending is what a key has spent, nil if nothing. A trial has a copy.
func (l *Limiter) spending(key limitKey) *spending {
	if l.real != nil && l.spent[key] == nil {
		l.real.mu.Lock()
		defer l.real.mu.Unlock()
		if spent := l.real.spent[key]; spent != nil {
			l.spent[key] = &spending{slices.Clone(spent.at), spent.kept}
		}
	}
	return l.spent[key]
}

func (l *Limiter) roomAt(key limitKey, limit *limit, now time.Time) (at time.Time, ok bool) {
	spent := l.spending(key)
	if spent == nil {
		return now, true
	}
	// A request that waited, or whose clock is behind, has some after it too. Wherever count of them and this one would be
	// within a period, it has to wait until the first of those is a period ago.
	at = now
	counting := spent.at[since(spent.at, now.Add(-limit.per)):]
	for i := limit.count - 1; i < len(counting); i++ {
		first, last := counting[i-limit.count+1], counting[i]
		if last.Sub(first) < limit.per && at.Sub(first) < limit.per && last.Sub(at) < limit.per {
			at = first.Add(limit.per)
		}
	}
	return at, at.Equal(now)
}

func (l *Limiter) take(limit *limit, in *Input, skew time.Duration) (Spend, bool) {
	key, now := limit.keyOf(in), in.countedAt()
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.roomAt(key, limit, now); !ok {
		return Spend{}, false
	}
	spent := l.spent[key]
	if spent == nil {
		spent = &spending{}
		l.spent[key] = spent
	}
	spent.kept = limit.per + skew // the next may be by a clock that is behind
	old := since(spent.at, now.Add(-spent.kept))
	spent.at = slices.Delete(spent.at, 0, old)
	// A request that waited can be older than one that was counted before it.
	spent.at = slices.Insert(spent.at, since(spent.at, now), now)
	if l.total += 1 - old; l.total > maxRemembered {
		l.forget(now)
	}
	return Spend{key, now}, true
}

// forget drops what no longer counts, and if that is not a quarter, what has been quiet longest.
func (l *Limiter) forget(now time.Time) {
	type quiet struct {
		key  limitKey
		last time.Time
	}
	var left []quiet
	for key, spent := range l.spent {
		last := spent.at[len(spent.at)-1]
		if !last.After(now.Add(-spent.kept)) {
			l.drop(key)
			continue
		}
		left = append(left, quiet{key, last})
	}
	slices.SortFunc(left, func(a, b quiet) int { return a.last.Compare(b.last) })
	for _, q := range left {
		if l.total <= maxRemembered/4*3 {
			return
		}
		l.drop(q.key)
	}
}

func (l *Limiter) drop(key limitKey) {
	l.total -= len(l.spent[key].at)
	delete(l.spent, key)
}

// since is how many of the moments are not after t.
func since(at []time.Time, t time.Time) int {
	i, _ := slices.BinarySearchFunc(at, t, func(a, b time.Time) int {
		if a.After(b) {
			return 1
		}
		return -1
	})
	return i
}

// keyOf is the key of an input. The tenant is always a part: what one does never uses up another's room.
func (l *limit) keyOf(in *Input) limitKey {
	h := sha256.New()
	var size [8]byte
	put := func(s string) {
		binary.BigEndian.PutUint64(size[:], uint64(len(s)))
		h.Write(size[:])
		h.Write([]byte(s))
	}
	put(l.name)
	put(in.Tenant)
	for _, f := range l.key {
		put(f.name)
		put(f.text(in))
	}
	return limitKey(h.Sum(nil))
}
