package index

import (
	"context"
	"math"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/shared"
)

// beyondGroups is where a pass is that has been through all groups.
var beyondGroups = Place{Position: math.MaxUint64}

// ForgetSlice goes on with the work of a request: it looks at messages for about most, moves w behind them, and returns
// the operations for them, to be applied in their order. The last slice of a pass ends with an operation that says so.
// A pass is first over all groups, and then over all records of the tenant, for those that name what was erased.
func (x *Index) ForgetSlice(ctx context.Context, w *ForgetWork, most time.Duration) ([]Op, error) {
	if w.Next == beyondGroups {
		return x.replaceSlice(ctx, w, most)
	}
	walked, err := x.Walk(ctx, WalkRequest{
		From: w.Next, End: w.End, Tenant: w.What.Tenant, Sender: w.What.Sender, SentBefore: w.What.Before,
		MaxFound: MaxForgetMessages, MaxTime: most,
	})
	if err != nil {
		return nil, err
	}
	var ops []*Forget
	for _, found := range walked.Found {
		if !forgets(&w.What, &found.Message) {
			continue
		}
		n := len(ops)
		if n == 0 || ops[n-1].Position != found.Place.Position {
			ops = append(ops, &Forget{What: w.What, Position: found.Place.Position, Pass: w.Pass})
			n++
		}
		f := ops[n-1]
		f.Messages = append(f.Messages, found.Message.ID)
		f.Next = Place{found.Place.Position, found.Place.Offset + 1}
	}
	w.Next = walked.Next
	if !walked.More {
		w.Next = beyondGroups
		ops = append(ops, &Forget{What: w.What, Pass: w.Pass, Next: w.Next})
	}
	return forgetOps(ops), nil
}

func forgetOps(list []*Forget) (ops []Op) {
	for _, f := range list {
		ops = append(ops, Op{Forget: f})
	}
	return ops
}

// replaceSlice is ForgetSlice for messages that name what was erased.
func (x *Index) replaceSlice(ctx context.Context, w *ForgetWork, most time.Duration) ([]Op, error) {
	named, err := x.Naming(&w.What, w.After, MaxForgetMessages, most)
	if err != nil {
		return nil, err
	}
	w.After = named.After
	f := &Forget{What: w.What, Replace: named.Messages, Pass: w.Pass, Next: beyondGroups, After: named.After}
	switch {
	case len(named.Messages) > 0:
	case named.More:
		return nil, nil
	default:
		ended, waiting, err := x.waitsOf(ctx, &w.What, MaxForgetMessages)
		if err != nil || len(ended) > 0 {
			return ended, err
		}
		f.EndPass, f.Waits = true, waiting
	}
	return []Op{{Forget: f}}, nil
}

// waitsOf finds the recalls that came before their messages and are of a request: operations that erase those that have
// ended, at most limit, and how many still wait.
func (x *Index) waitsOf(
	ctx context.Context, what *shared.ForgetRequest, limit int,
) (ended []Op, waiting int, err error) {
	if !x.HasWaits() && !x.HasEndedWaits() {
		return nil, 0, nil
	}
	err = x.dir.Read(func(txn *badger.Txn) error {
		return each(ctx, txn, newKey('v').text(what.Tenant), nil, func(item *badger.Item) (bool, error) {
			w, err := waitAt(item)
			of := w.Actor.ID == what.Sender
			if what.Sender == "" {
				of = forgets(what, &shared.Message{Tenant: w.Tenant, Conversation: w.Conversation, SentAt: w.RequestedAt})
			}
			switch {
			case !of:
			case w.State == shared.WaitWaiting:
				waiting++
			default:
				ended = append(ended, Op{EndWait: &EndWait{
					Tenant: w.Tenant, MessageID: w.MessageID, RecallID: w.RecallID, At: encodeTime(w.EndedAt),
				}})
			}
			return len(ended) < limit, err
		})
	})
	return ended, waiting, err
}

// Rest is what is left of an operation that dealt with the first of its messages; nil if nothing is.
func (f *Forget) Rest(dealt int) *Forget {
	if dealt >= len(f.Messages)+len(f.Replace) {
		return nil
	}
	rest := *f
	first := min(dealt, len(f.Messages))
	rest.Messages, rest.Replace = f.Messages[first:], f.Replace[dealt-first:]
	return &rest
}

// ExpireSlice looks at messages from a place on for about most, and returns the operations that erase those that were
// sent before a time and are live. more says that there are messages behind next.
func (x *Index) ExpireSlice(
	ctx context.Context, before time.Time, from Place, most time.Duration,
) (ops []Op, next Place, more bool, err error) {
	walked, err := x.Walk(ctx, WalkRequest{From: from, SentBefore: before, MaxFound: MaxForgetMessages, MaxTime: most})
	if err != nil {
		return nil, from, false, err
	}
	var list []*Forget
	for _, found := range walked.Found {
		if found.Tombstone != nil {
			continue
		}
		n := len(list)
		if n == 0 || list[n-1].Position != found.Place.Position || list[n-1].What.Tenant != found.Message.Tenant {
			list = append(list, &Forget{
				What:   shared.ForgetRequest{Tenant: found.Message.Tenant, Before: before},
				Expire: true, Position: found.Place.Position,
			})
			n++
		}
		list[n-1].Messages = append(list[n-1].Messages, found.Message.ID)
	}
	return forgetOps(list), walked.Next, walked.More, nil
}
