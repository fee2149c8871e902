package index

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// Place is a place in a walk over all messages: before a message of the group at a position, with so many messages of
// the group before it. Places are ordered, and new messages come behind all others. [Index.Salvage] makes new groups.
type Place struct {
	Position uint64
	Offset   int
}

// Compare returns a negative number if p is before q, 0 if they are the same, and else a positive one.
func (p Place) Compare(q Place) int {
	return cmp.Or(cmp.Compare(p.Position, q.Position), cmp.Compare(p.Offset, q.Offset))
}

// WalkRequest says which messages a walk visits, and where it stops.
type WalkRequest struct {
	From Place  // where an earlier walk stopped; zero: before the first message
	End  uint64 // position of the last group that is visited; 0: the newest

	// What matches. For most of the other messages a walk reads no record.
	Tenant     string    // empty: any
	Sender     string    // empty: anybody
	SentFrom   time.Time // zero: any
	SentBefore time.Time // zero: any

	// A walk stops once it has passed one of these; 0: no limit. It passes at least one message or one group.
	MaxFound    int           // messages that match
	MaxExamined int           // messages of the tenant
	MaxBytes    int           // of the records of messages that match
	MaxTime     time.Duration // since its begin
}

// Found is a message that a walk found, live or recalled.
type Found struct {
	*Record
	Place    Place
	Examined int // messages of the tenant that the walk passed before this one
}

// Walked is what a walk found, in the order of indexing.
type Walked struct {
	Found    []Found
	Examined int   // messages of the tenant that it passed, also those that do not match
	Next     Place // where the next one goes on
	More     bool  // there is more up to the end
}

// Walk visits messages in the order in which they were indexed. It reads one version of the index: the next walk finds
// what is indexed meanwhile. It fails with the error of ctx, and with [ErrCorrupt] if a group is damaged or a message
// of a group has no record.
func (x *Index) Walk(ctx context.Context, req WalkRequest) (Walked, error) {
	w := walk{WalkRequest: req, senderSum: senderSum(req.Sender), began: time.Now(), out: Walked{Next: req.From}}
	if w.End == 0 {
		w.End = math.MaxUint64
	}
	err := x.dir.Read(func(txn *badger.Txn) error {
		return each(ctx, txn, newKey('t'), groupKey(req.From.Position), func(item *badger.Item) (bool, error) {
			position := lastNumber(item.Key())
			if w.full || position > w.End {
				w.out.More = w.full && position <= w.End
				return false, nil
			}
			var pb indexpb.Group
			err := decode(item, &pb)
			if err == nil {
				err = w.group(ctx, txn, &pb, position)
			}
			return !w.out.More, err
		})
	})
	if err != nil {
		return Walked{}, fmt.Errorf("walk over the messages: %w", err)
	}
	return w.out, nil
}

// LastGroup is the position of the last group; 0: there is none.
func (x *Index) LastGroup() (position uint64, err error) {
	err = x.dir.Read(func(txn *badger.Txn) error {
		position = lastGroup(txn)
		return nil
	})
	return position, err
}

// walk is a walk under way.
type walk struct {
	WalkRequest
	senderSum uint32
	began     time.Time

	bytes int // of the records that were found
	timed int // messages since the clock was read
	full  bool
	out   Walked
}

// timedMembers is how many messages of groups a walk passes between two looks at the clock: some microseconds.
const timedMembers = 64

// group visits the messages of a group from the place of the walk on.
func (w *walk) group(ctx context.Context, txn *badger.Txn, pb *indexpb.Group, position uint64) error {
	first := 0
	if position == w.out.Next.Position {
		first = w.out.Next.Offset
	}
	place := Place{Position: position} // of the next message
	for _, part := range pb.Parts {
		size := len(part.Senders)
		if place.Offset+size <= first || w.Tenant != "" && part.Tenant != w.Tenant {
			place.Offset += size
			continue
		}
		r, err := newPartReader(part)
		if err != nil {
			return err
		}
		for range size {
			m, err := r.next()
			if err != nil {
				return err
			}
			if m.id == "" { // it was erased
				place.Offset++
				continue
			}
			if place.Offset >= first {
				if w.full {
					w.out.Next, w.out.More = place, true
					return nil
				}
				if err := w.visit(ctx, txn, &m, place); err != nil {
					return err
				}
			}
			place.Offset++
		}
		if err := r.end(); err != nil {
			return err
		}
	}
	w.out.Next = Place{Position: position + 1}
	w.full = w.full || w.isLate() // also where all groups are of other tenants
	return nil
}

func (w *walk) isLate() bool { return w.MaxTime > 0 && time.Since(w.began) >= w.MaxTime }

// visit passes a message of the tenant.
func (w *walk) visit(ctx context.Context, txn *badger.Txn, m *member, at Place) error {
	passed := w.out.Examined
	w.out.Examined++
	if w.mayMatch(m) {
		if err := ctx.Err(); err != nil {
			return err
		}
		rec, err := readRecord(txn, m.tenant, m.id)
		switch {
		case err != nil:
			return err
		case rec == nil:
			return fmt.Errorf("%w: message %q of tenant %q is in the group %d and has no record", ErrCorrupt, m.id, m.tenant,
				at.Position)
		case w.matches(&rec.Message):
			w.out.Found = append(w.out.Found, Found{Record: rec, Place: at, Examined: passed})
			w.bytes += messageBytes(&rec.Message)
		}
		w.timed = timedMembers // a record takes as long as these
	}
	if w.timed++; w.timed > timedMembers {
		w.timed = 0
		w.full = w.isLate()
	}
	w.full = w.full ||
		w.MaxFound > 0 && len(w.out.Found) >= w.MaxFound ||
		w.MaxExamined > 0 && w.out.Examined >= w.MaxExamined ||
		w.MaxBytes > 0 && w.bytes >= w.MaxBytes
	return nil
}

// mayMatch tells from what a group has of a message whether it can match.
func (w *walk) mayMatch(m *member) bool {
	return (w.Sender == "" || m.sender == w.senderSum) &&
		(w.SentFrom.IsZero() || m.sentAt >= w.SentFrom.UnixMilli()) &&
		(w.SentBefore.IsZero() || m.sentAt <= w.SentBefore.UnixMilli())
}

func (w *walk) matches(m *shared.Message) bool {
	return (w.Sender == "" || m.Sender == w.Sender) && !m.SentAt.Before(w.SentFrom) &&
		(w.SentBefore.IsZero() || m.SentAt.Before(w.SentBefore))
}
