package index

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// maxPageBytes ends a page of Since or of a ledger early: a page must fit wire.MaxWireBytes.
const maxPageBytes = 1 << 20

// Record is what the index knows of a message. A live one has no tombstone.
type Record struct {
	Message   shared.Message
	Tombstone *Tombstone
}

// Messages finds messages of a tenant, all in one view of the index. It returns, in order, one record an id, nil for
// an id that is unknown.
func (x *Index) Messages(tenant string, ids []string) ([]*Record, error) {
	return x.records(tenant, ids, func(*Record) {})
}

// States is [Index.Messages] without attachments and labels, which may be a hundred times as large as the rest.
func (x *Index) States(tenant string, ids []string) ([]*Record, error) {
	return x.records(tenant, ids, func(r *Record) { r.Message.Attachments, r.Message.Labels = nil, nil })
}

func (x *Index) records(tenant string, ids []string, trim func(*Record)) ([]*Record, error) {
	if err := checkTexts("messages", "tenant", tenant); err != nil {
		return nil, err
	}
	records := make([]*Record, len(ids))
	err := x.dir.View(func(txn *badger.Txn) error {
		for i, id := range ids {
			err := checkTexts("messages", "id", id)
			if err != nil {
				return err
			}
			if records[i], err = readRecord(txn, tenant, id); err != nil {
				return err
			}
			if records[i] != nil {
				trim(records[i])
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// Since is [shared.Recall] Since, of a valid request. A page ends before its limit where its events come to megabytes.
func (x *Index) Since(ctx context.Context, req shared.SinceRequest) (shared.EventPage, error) {
	if err := checkTexts("since", "tenant", req.Tenant); err != nil {
		return shared.EventPage{}, err
	}
	for i := range req.Conversations {
		if err := checkTexts("since", fmt.Sprintf("conversations[%d].id", i), req.Conversations[i].ID); err != nil {
			return shared.EventPage{}, err
		}
	}
	if req.Limit == 0 {
		req.Limit = shared.MaxSinceLimit
	}
	var page shared.EventPage
	err := x.dir.View(func(txn *badger.Txn) error {
		var next indexpb.Counter
		if _, err := get(txn, sequenceKey, &next); err != nil {
			return err
		}
		after, void, err := x.sequenceOf(req.After, next.Next-1)
		if err != nil || void {
			page.Reset = void
			return err
		}
		found, err := recallsAfter(ctx, txn, &req, after)
		if err != nil {
			return err
		}
		page.Next = x.cursorOf(next.Next - 1)
		size := 0
		for i, r := range found {
			if i == req.Limit || size > maxPageBytes {
				page.Next, page.More = x.cursorOf(found[i-1].sequence), true
				return nil
			}
			var entry indexpb.Entry
			if err := mustGet(txn, ledgerKey(req.Tenant, r.pointer.RecallId, r.sequence), &entry, r.sequence); err != nil {
				return err
			}
			e, err := readEvent(txn, req.Tenant, r.pointer.RecallId, &entry)
			if err := errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			page.Events = append(page.Events, e)
			size += EventBytes(&e)
		}
		return nil
	})
	if err != nil {
		return shared.EventPage{}, err
	}
	return page, nil
}

// recallOf is one recall of a conversation.
type recallOf struct {
	sequence uint64
	pointer  *indexpb.Pointer
}

// recallsAfter merges the recalls of the conversations of a request after a sequence: the first in order, and one more
// than its limit where there are more.
func recallsAfter(ctx context.Context, txn *badger.Txn, req *shared.SinceRequest, after uint64) ([]recallOf, error) {
	if len(req.Conversations) == 0 {
		return nil, nil
	}
	keep := req.Limit + 1
	var found []recallOf
	last := ^uint64(0) // nothing beyond it is among the first
	trim := func() {
		slices.SortFunc(found, func(a, b recallOf) int {
			if a.sequence < b.sequence {
				return -1
			}
			return 1
		})
		if len(found) >= keep {
			found = found[:keep]
			last = found[keep-1].sequence
		}
	}
	it := txn.NewIterator(badger.IteratorOptions{
		PrefetchValues: false,
		Prefix:         newKey('r').text(req.Tenant),
	})
	defer it.Close()
	for _, c := range req.Conversations {
		prefix := conversationPrefix(req.Tenant, c)
		for it.Seek(conversationKey(req.Tenant, c, after+1)); it.ValidForPrefix(prefix); it.Next() {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			item := it.Item()
			sequence := lastNumber(item.Key())
			if sequence >= last {
				break
			}
			r := recallOf{sequence: sequence, pointer: &indexpb.Pointer{}}
			if err := decode(item, r.pointer); err != nil {
				return nil, err
			}
			if found = append(found, r); len(found) >= 2*keep {
				trim()
			}
		}
	}
	trim()
	return found, nil
}

// LedgerPage reads one page of the ledger of a recall, in the order of its events. A page ends before its limit where
// its entries come to megabytes.
func (x *Index) LedgerPage(ctx context.Context, req shared.LedgerRequest) (shared.LedgerPage, error) {
	if err := checkTexts("ledger", "tenant", req.Tenant, "recall_id", req.RecallID); err != nil {
		return shared.LedgerPage{}, err
	}
	if req.Limit == 0 {
		req.Limit = shared.MaxLedgerLimit
	}
	page, size := shared.LedgerPage{Next: req.After}, 0
	err := x.dir.View(func(txn *badger.Txn) error {
		after, void, err := x.sequenceOf(req.After, math.MaxUint64-1)
		if err != nil || void {
			page.Reset, page.Next = void, ""
			return err
		}
		from := ledgerKey(req.Tenant, req.RecallID, after+1)
		return each(ctx, txn, recallPrefix(req.Tenant, req.RecallID), from, func(item *badger.Item) (bool, error) {
			if len(page.Entries) == req.Limit || size > maxPageBytes {
				page.More = true
				return false, nil
			}
			var entry indexpb.Entry
			if err := decode(item, &entry); err != nil {
				return false, err
			}
			e, err := ledgerEntry(txn, req.Tenant, req.RecallID, &entry)
			if err != nil {
				return false, err
			}
			page.Entries, page.Next = append(page.Entries, e), x.cursorOf(entry.Sequence)
			size += int(item.ValueSize()) + messageBytes(&e.Event.Message)
			for _, s := range e.Steps {
				size += len(s.Error)
			}
			return true, nil
		})
	})
	if err != nil {
		return shared.LedgerPage{}, err
	}
	return page, nil
}

// CheckRecallID says what the committer would say of more messages that an actor recalls under a recall id: whether
// it is another actor's, or that too many messages share it.
func (x *Index) CheckRecallID(tenant, recallID, actor string, more int) (otherActor bool, err error) {
	err = x.dir.View(func(txn *badger.Txn) error {
		otherActor, err = checkRecallID(txn, tenant, recallID, actor, more)
		return err
	})
	return otherActor, err
}

// ledgerEntry completes a ledger entry by the facts of its message and what came of its steps.
func ledgerEntry(txn *badger.Txn, tenant, recallID string, entry *indexpb.Entry) (e shared.LedgerEntry, err error) {
	if e.Event, err = readEvent(txn, tenant, recallID, entry); err != nil {
		return e, err
	}
	e.Steps = make([]shared.StepRecord, len(entry.Steps))
	for i, step := range entry.Steps {
		a, err := readAttempts(txn, entry, step)
		if err != nil {
			return e, err
		}
		e.Steps[i] = stepRecord(step.Name, a)
	}
	return e, nil
}

// Entry finds an event by an open step of it; nil where that step is not open, or waits for others. Its Steps are that
// one.
func (x *Index) Entry(sequence uint64, step string) (e *shared.LedgerEntry, err error) {
	if err := shared.ValidateStep("step", step); err != nil {
		return nil, err
	}
	err = x.dir.View(func(txn *badger.Txn) error {
		var a indexpb.Attempts
		if queued, err := find(txn, stepKey(step, sequence)); err != nil {
			return err
		} else if queued == nil {
			if tried, err := get(txn, attemptsKey(sequence, step), &a); err != nil || !tried || settled(&a) {
				return err
			}
		}
		steps := []shared.StepRecord{stepRecord(step, &a)}
		if r := x.recent.get(sequence); r != nil {
			e = &shared.LedgerEntry{Event: r.event, Steps: steps}
			return nil
		}
		pointer, entry, err := entryOf(txn, sequence)
		if err != nil {
			return err
		}
		if entry == nil {
			return missing(sequence, eventKey(sequence))
		}
		event, err := readEvent(txn, pointer.Tenant, pointer.RecallId, entry)
		e = &shared.LedgerEntry{Event: event, Steps: steps}
		return err
	})
	return e, err
}

// OpenSteps lists, in order, at most limit sequences after one whose events have this step in the step queue: open, and
// never failed.
func (x *Index) OpenSteps(ctx context.Context, step string, after uint64, limit int) (sequences []uint64, err error) {
	if err := shared.ValidateStep("step", step); err != nil {
		return nil, err
	}
	return x.numbers(ctx, stepPrefix(step), after, limit)
}

// Gated lists, in order, at most limit sequences after one whose events have steps that wait for notify.
func (x *Index) Gated(ctx context.Context, after uint64, limit int) (sequences []uint64, err error) {
	return x.numbers(ctx, newKey('w'), after, limit)
}

// numbers lists, in order, at most limit numbers after one with which keys end that begin with prefix.
func (x *Index) numbers(ctx context.Context, prefix key, after uint64, limit int) (list []uint64, err error) {
	if after == math.MaxUint64 || limit <= 0 {
		return nil, nil
	}
	from := slices.Clone(prefix).number(after + 1)
	err = x.dir.View(func(txn *badger.Txn) error {
		return each(ctx, txn, prefix, from, func(item *badger.Item) (bool, error) {
			list = append(list, lastNumber(item.Key()))
			return len(list) < limit, nil
		})
	})
	return list, err
}

// Failure is an open step of an event whose last attempt failed.
type Failure struct {
	Position uint64 // of that failure among all failed attempts of the index
	Sequence uint64
}

// BackingOff lists, in the order of their positions, at most limit events that have this step on one level of backoff
// and whose position is after one number and not after another.
func (x *Index) BackingOff(
	ctx context.Context, step string, level int, after, upTo uint64, limit int,
) (list []Failure, err error) {
	if err := shared.ValidateStep("step", step); err != nil {
		return nil, err
	}
	if after >= upTo || limit <= 0 {
		return nil, nil
	}
	prefix := append(backoffPrefix(step), byte(level))
	from := slices.Clone(prefix).number(after + 1)
	err = x.dir.View(func(txn *badger.Txn) error {
		return each(ctx, txn, prefix, from, func(item *badger.Item) (bool, error) {
			f := Failure{Position: numberBefore(item.Key()), Sequence: lastNumber(item.Key())}
			if f.Position > upTo {
				return false, nil
			}
			list = append(list, f)
			return len(list) < limit, nil
		})
	})
	return list, err
}

// Sequence finds the event of a message that was recalled under a recall id; 0 where there is none.
func (x *Index) Sequence(tenant, recallID, messageID string) (sequence uint64, err error) {
	records, err := x.Messages(tenant, []string{messageID})
	if err != nil || records[0] == nil {
		return 0, err
	}
	if t := records[0].Tombstone; t != nil && t.RecallID == recallID {
		return t.Sequence, nil
	}
	return 0, nil
}

// CountBackingOff tells how many events have this step backing off, and stops counting at limit.
func (x *Index) CountBackingOff(ctx context.Context, step string, limit int) (n int, err error) {
	err = x.dir.View(func(txn *badger.Txn) error {
		return each(ctx, txn, backoffPrefix(step), nil, func(*badger.Item) (bool, error) {
			n++
			return n < limit, nil
		})
	})
	return n, err
}

// OldestOpen tells when the oldest recall was made in which this step is open: in the step queue, or backing off, of
// which it looks at limit events. Zero: there is none.
func (x *Index) OldestOpen(ctx context.Context, step string, limit int) (at time.Time, err error) {
	var oldest uint64
	err = x.dir.View(func(txn *badger.Txn) error {
		note := func(item *badger.Item) {
			if n := lastNumber(item.Key()); oldest == 0 || n < oldest {
				oldest = n
			}
		}
		err := each(ctx, txn, stepPrefix(step), nil, func(item *badger.Item) (bool, error) {
			note(item) // the first is the oldest
			return false, nil
		})
		if err != nil {
			return err
		}
		n := 0
		err = each(ctx, txn, backoffPrefix(step), nil, func(item *badger.Item) (bool, error) {
			note(item)
			n++
			return n < limit, nil
		})
		if err != nil || oldest == 0 {
			return err
		}
		_, entry, err := entryOf(txn, oldest)
		if err == nil && entry != nil {
			at = decodeTime(entry.RecalledAt)
		}
		return err
	})
	return at, err
}

// CountOpen tells in how many events each step is open, also where it backs off or waits for other steps; those of
// but are left out. It reads every key of the others.
func (x *Index) CountOpen(ctx context.Context, but []string) (map[string]int, error) {
	open := map[string]int{}
	err := x.dir.View(func(txn *badger.Txn) error {
		for _, kind := range []byte{'e', 'b'} {
			if err := countKeys(ctx, txn, newKey(kind), but, open); err != nil {
				return err
			}
		}
		for _, kind := range []byte{'w', 'd'} {
			err := each(ctx, txn, newKey(kind), nil, func(item *badger.Item) (bool, error) {
				return true, countWaiting(txn, kind, lastNumber(item.Key()), but, open)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return open, err
}

// countWaiting counts the steps of an event that wait, behind its gate (kind w) or without one for other steps
// (kind d).
func countWaiting(txn *badger.Txn, kind byte, sequence uint64, but []string, counts map[string]int) error {
	gate, err := find(txn, gateKey(sequence))
	if err != nil || kind == 'd' && gate != nil {
		return err
	}
	_, entry, err := entryOf(txn, sequence)
	if err != nil {
		return err
	}
	if entry == nil {
		return missing(sequence, eventKey(sequence))
	}
	for _, s := range entry.Steps {
		if !isBehindNotify(s) || slices.Contains(but, s.Name) {
			continue
		}
		waits := gate != nil
		if !waits && hasAfter(s) {
			if waits, err = isUnopened(txn, sequence, s.Name); err != nil {
				return err
			}
		}
		if waits {
			counts[s.Name]++
		}
	}
	return nil
}

// countKeys counts the keys that begin with prefix by the text that follows, but for those of some texts.
func countKeys(ctx context.Context, txn *badger.Txn, prefix key, but []string, counts map[string]int) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
	defer it.Close()
	for it.Seek(prefix); it.Valid(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		text := textAt(it.Item().Key(), len(prefix))
		if !slices.Contains(but, text) {
			counts[text]++
			it.Next()
			continue
		}
		beyond := slices.Clone(prefix).text(text)
		beyond[len(beyond)-1]++
		it.Seek(beyond)
	}
	return nil
}

// LastSequence is that of the last recall, 0 before the first.
func (x *Index) LastSequence() uint64 { return x.lastSequence.Load() }

// LastFailure is the position of the last failed attempt, 0 before the first.
func (x *Index) LastFailure() uint64 { return x.lastFailure.Load() }

// each visits the keys that begin with prefix, without their values, until visit returns false or ctx ends.
func each(ctx context.Context, txn *badger.Txn, prefix, from key, visit func(*badger.Item) (bool, error)) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
	defer it.Close()
	if from == nil {
		from = prefix
	}
	for it.Seek(from); it.Valid(); it.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if more, err := visit(it.Item()); err != nil || !more {
			return err
		}
	}
	return nil
}
