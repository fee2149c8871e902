package index

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// maxListed bounds the recalls that a page of List reads. It reads two to four values of each: about 5 µs if they are
// in memory (TestList_BoundedPages logs it). So a page takes about 25 ms, not much longer than one of 1,000 events.
const maxListed = 5000

// List is [shared.Recall] List, of a valid request. A page ends before its limit where its events come to megabytes,
// and where it has read maxListed recalls.
func (x *Index) List(ctx context.Context, req shared.ListRequest) (shared.EventPage, error) {
	if err := checkTexts("list", "tenant", req.Tenant); err != nil {
		return shared.EventPage{}, err
	}
	if req.Conversation != (shared.Conversation{}) {
		if err := checkTexts("list", "conversation.id", req.Conversation.ID); err != nil {
			return shared.EventPage{}, err
		}
	}
	if req.Limit == 0 {
		req.Limit = shared.MaxListLimit
	}
	var page shared.EventPage
	err := x.dir.View(func(txn *badger.Txn) error {
		var next indexpb.Counter
		if _, err := get(txn, sequenceKey, &next); err != nil {
			return err
		}
		below, void, err := x.sequenceOf(req.After, next.Next-1)
		switch {
		case err != nil || void:
			page.Reset = void
			return err
		case req.After == "":
			below = math.MaxUint64
		case below >= next.Next:
			return fmt.Errorf("%w: the cursor is of another node of the cluster, and this one has not applied as much of the "+
				"log yet", shared.ErrUnavailable)
		}
		return x.listBelow(ctx, txn, &req, below, &page)
	})
	if err != nil {
		return shared.EventPage{}, err
	}
	return page, nil
}

// listBelow fills a page with the events below a sequence, newest first.
func (x *Index) listBelow(
	ctx context.Context, txn *badger.Txn, req *shared.ListRequest, below uint64, page *shared.EventPage,
) error {
	page.Next = x.cursorOf(0) // nothing is below it
	if below == 0 {
		return nil
	}
	prefix := newKey('q')
	if req.Conversation != (shared.Conversation{}) {
		prefix = conversationPrefix(req.Tenant, req.Conversation)
	}
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix, Reverse: true})
	defer it.Close()
	size, read := 0, 0
	for it.Seek(slices.Clone(prefix).number(below - 1)); it.Valid(); it.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(page.Events) == req.Limit || size > maxPageBytes || read == maxListed {
			page.Next, page.More = x.cursorOf(below), true
			return nil
		}
		below = lastNumber(it.Item().Key())
		read++
		e, err := x.matching(txn, req, it.Item())
		if err != nil {
			return err
		}
		if e != nil {
			page.Events = append(page.Events, *e)
			size += EventBytes(e)
		}
	}
	return nil
}

// matching reads the event that an item points to; nil if it does not match a request. item is of the tenant and the
// conversation of the request, if it has one, and else any event.
func (x *Index) matching(txn *badger.Txn, req *shared.ListRequest, item *badger.Item) (*shared.Event, error) {
	var pointer indexpb.Pointer
	if err := decode(item, &pointer); err != nil {
		return nil, err
	}
	if req.Conversation == (shared.Conversation{}) && pointer.Tenant != req.Tenant {
		return nil, nil
	}
	sequence, entry := lastNumber(item.Key()), &indexpb.Entry{}
	if err := mustGet(txn, ledgerKey(req.Tenant, pointer.RecallId, sequence), entry, sequence); err != nil {
		return nil, err
	}
	at := decodeTime(entry.RecalledAt)
	if req.Actor != "" && entry.ActorId != req.Actor || req.Rule != "" && entry.RuleName != req.Rule ||
		req.JobID != "" && entry.JobId != req.JobID || at.Before(req.From) || !req.Before.IsZero() && !at.Before(req.Before) {
		return nil, nil
	}
	if req.Steps != "" {
		if found, err := x.hasStep(txn, entry, req.Steps); err != nil || !found {
			return nil, err
		}
	}
	e, err := readEvent(txn, req.Tenant, pointer.RecallId, entry)
	if err != nil || req.Sender != "" && e.Message.Sender != req.Sender {
		return nil, err
	}
	return &e, nil
}

// hasStep reports whether an event has a step that is open, or whose last attempt failed as well.
func (x *Index) hasStep(txn *badger.Txn, entry *indexpb.Entry, filter shared.StepsFilter) (bool, error) {
	for _, step := range entry.Steps {
		a, err := readAttempts(txn, entry, step)
		if err != nil {
			return false, err
		}
		if settled(a) {
			continue
		}
		if filter == shared.StepsOpen {
			return true, nil
		}
		records, err := x.stepRecordsOf(txn, entry, step, a)
		failed := func(r shared.StepRecord) bool { return r.Outcome == shared.OutcomeFailed }
		if err != nil || slices.ContainsFunc(records, failed) {
			return err == nil, err
		}
	}
	return false, nil
}
