package index

import (
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/plugin/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// maxPageBytes ends a page of Since early: a page must fit shared.MaxWireBytes.
const maxPageBytes = shared.MaxWireBytes / 4

// Record is what the index knows of a message. A live one has no tombstone.
type Record struct {
	Message   shared.Message
	Tombstone *Tombstone
}

// Messages finds messages of a tenant, all in one view of the index. It returns, in order, one record an id, nil for
// an id that is unknown.
func (x *Index) Messages(tenant string, ids []string) ([]*Record, error) {
	if err := checkTexts("messages", "tenant", tenant); err != nil {
		return nil, err
	}
	records := make([]*Record, len(ids))
	err := x.view(func(txn *badger.Txn) error {
		for i, id := range ids {
			err := checkTexts("messages", "id", id)
			if err != nil {
				return err
			}
			if records[i], err = readRecord(txn, tenant, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// Since is shared.Recall's, of a valid request. A page ends before its limit where its events come to megabytes.
func (x *Index) Since(req shared.SinceRequest) (shared.SincePage, error) {
	if err := req.Validate(); err != nil {
		return shared.SincePage{}, err
	}
	if req.Limit == 0 {
		req.Limit = shared.MaxSinceLimit
	}
	var page shared.SincePage
	err := x.view(func(txn *badger.Txn) error {
		var next indexpb.Counter
		if _, err := get(txn, sequenceKey, &next); err != nil {
			return err
		}
		var err error
		if req.After, err = x.sequenceOf(req.After, next.Next-1); err != nil {
			return err
		}
		found, err := recallsAfter(txn, &req)
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
			e, err := readEntry(txn, req.Tenant, r.pointer.RecallId, r.pointer.MessageId)
			if err != nil {
				return err
			}
			page.Events = append(page.Events, e.Event)
			size += (&Op{Recall: &Recall{Event: e.Event}}).bytes()
		}
		return nil
	})
	if err != nil {
		return shared.SincePage{}, err
	}
	return page, nil
}

// recallOf is one recall of a conversation.
type recallOf struct {
	sequence uint64
	pointer  *indexpb.Pointer
}

// recallsAfter merges the recalls of the conversations of a request: the first in order, and one more than its limit
// where there are more.
func recallsAfter(txn *badger.Txn, req *shared.SinceRequest) ([]recallOf, error) {
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
		for it.Seek(conversationKey(req.Tenant, c, req.After+1)); it.ValidForPrefix(prefix); it.Next() {
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

// Ledger is shared.Recall's. Its entries are in the order of their sequence.
func (x *Index) Ledger(tenant, recallID string) (shared.Ledger, error) {
	ledger := shared.Ledger{Tenant: tenant, RecallID: recallID}
	if err := checkTexts("ledger", "tenant", tenant, "recall_id", recallID); err != nil {
		return ledger, err
	}
	err := x.view(func(txn *badger.Txn) error {
		prefix := recallPrefix(tenant, recallID)
		return each(txn, prefix, nil, func(item *badger.Item) (bool, error) {
			e, err := readEntry(txn, tenant, recallID, textAt(item.Key(), len(prefix)))
			if err == nil {
				ledger.Entries = append(ledger.Entries, *e)
			}
			return true, err
		})
	})
	slices.SortFunc(ledger.Entries, func(a, b shared.LedgerEntry) int {
		return int(int64(a.Event.Sequence) - int64(b.Event.Sequence))
	})
	return ledger, err
}

// Entry finds the ledger entry of an event by an open step of it; nil where that step is not open. Steps and Attempt
// of its event are empty.
func (x *Index) Entry(sequence uint64, step string) (e *shared.LedgerEntry, err error) {
	if err := shared.ValidateStep("step", step); err != nil {
		return nil, err
	}
	err = x.view(func(txn *badger.Txn) error {
		var p indexpb.Pointer
		found, err := get(txn, stepKey(step, sequence), &p)
		if err != nil || !found {
			return err
		}
		e, err = readEntry(txn, p.Tenant, p.RecallId, p.MessageId)
		return err
	})
	return e, err
}

// OpenSteps lists, in order, at most limit sequences after one whose events have this step open.
func (x *Index) OpenSteps(step string, after uint64, limit int) (sequences []uint64, err error) {
	if err := shared.ValidateStep("step", step); err != nil {
		return nil, err
	}
	if after == ^uint64(0) || limit <= 0 {
		return nil, nil
	}
	err = x.view(func(txn *badger.Txn) error {
		return each(txn, stepPrefix(step), stepKey(step, after+1), func(item *badger.Item) (bool, error) {
			sequences = append(sequences, lastNumber(item.Key()))
			return len(sequences) < limit, nil
		})
	})
	return sequences, err
}

// Lanes lists the steps that are open in any event, in the order of their names.
func (x *Index) Lanes() (steps []string, err error) {
	err = x.view(func(txn *badger.Txn) error {
		all := newKey('e')
		from := all
		for {
			step := ""
			err := each(txn, all, from, func(item *badger.Item) (bool, error) {
				step = textAt(item.Key(), len(all))
				return false, nil
			})
			if err != nil || step == "" {
				return err
			}
			steps = append(steps, step)
			from = stepPrefix(step)
			from[len(from)-1]++ // beyond every key of this step
		}
	})
	return steps, err
}

// each visits the keys that begin with prefix, without their values, until visit returns false.
func each(txn *badger.Txn, prefix, from key, visit func(*badger.Item) (bool, error)) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
	defer it.Close()
	if from == nil {
		from = prefix
	}
	for it.Seek(from); it.Valid(); it.Next() {
		if more, err := visit(it.Item()); err != nil || !more {
			return err
		}
	}
	return nil
}
