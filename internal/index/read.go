package index

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

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

	// Forgotten: the message was recalled and then forgotten. Its tombstone is empty, and of the message only the tenant
	// and the id are set.
	Forgotten bool
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
	mayForget := x.mayForget.Load() // before the read begins
	err := x.dir.View(func(txn *badger.Txn) error {
		forgotten := forgottenReader{txn: txn}
		for i, id := range ids {
			err := checkTexts("messages", "id", id)
			if err != nil {
				return err
			}
			if records[i], err = readRecord(txn, tenant, id); err == nil && records[i] == nil && mayForget {
				records[i], err = forgotten.record(tenant, id)
			}
			if err != nil {
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
		if after > next.Next-1 { // another node has applied more of the log
			page.Next = req.After
			return nil
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
			e, err := x.ledgerEntry(txn, req.Tenant, req.RecallID, &entry)
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
func (x *Index) ledgerEntry(
	txn *badger.Txn, tenant, recallID string, entry *indexpb.Entry,
) (e shared.LedgerEntry, err error) {
	if e.Event, err = readEvent(txn, tenant, recallID, entry); err != nil {
		return e, err
	}
	e.Steps = make([]shared.StepRecord, 0, len(entry.Steps)) // none is no nil
	for _, step := range entry.Steps {
		a, err := readAttempts(txn, entry, step)
		if err != nil {
			return e, err
		}
		records, err := x.stepRecordsOf(txn, entry, step, a)
		if err != nil {
			return e, err
		}
		e.Steps = append(e.Steps, records...)
	}
	return e, nil
}

// stepRecordsOf returns what came of a step whose attempts are a: one record, or in a cluster one of each node that
// carries it out.
func (x *Index) stepRecordsOf(
	txn *badger.Txn, entry *indexpb.Entry, step *indexpb.Step, a *indexpb.Attempts,
) ([]shared.StepRecord, error) {
	if x.logID == "" || !isOpen(step) {
		return []shared.StepRecord{stepRecord(step.Name, a.Node, a)}, nil
	}
	return stepRecords(txn, entry.Sequence, step.Name, a)
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

// LastSequence is that of the last recall, 0 before the first.
func (x *Index) LastSequence() uint64 { return x.lastSequence.Load() }

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
