package adapter

import (
	"cmp"
	"context"
	"maps"
	"strings"

	"github.com/chat-recall/recall/shared"
)

// Since pages through the recalls of some conversations of a user after a cursor, as ForUser shows them. The Tenant of
// req is ignored. If the user may not read one of the conversations, the error is ErrNotVisible. The cursor grows with
// every recall of the index, so a client can tell that there were some elsewhere, and no more.
func (a *Adapter) Since(ctx context.Context, user string, req shared.SinceRequest) (shared.EventPage, error) {
	recall, err := a.plugin(ctx)
	if err != nil {
		return shared.EventPage{}, err
	}
	roles := a.rolesOf(user)
	for _, c := range req.Conversations[:min(len(req.Conversations), shared.MaxSinceConversations)] {
		_, reads, err := roles.in(ctx, c)
		if err != nil {
			return shared.EventPage{}, err
		}
		if !reads {
			return shared.EventPage{}, ErrNotVisible
		}
	}
	req.Tenant = a.tenant
	page, err := recall.Since(ctx, req)
	events := make([]shared.Event, len(page.Events))
	for i, e := range page.Events {
		events[i] = ForUser(e, user)
	}
	page.Events = events
	return page, err
}

const (
	// minLedgerChunk is how many entries of a ledger are read first, if fewer are asked for: most may be of others. Each
	// read has twice as many as the one before.
	minLedgerChunk = 100

	// maxLedgerRead bounds how many entries one call of Ledger examines: as many messages as a recall has, without those
	// that were recalled with them.
	maxLedgerRead = shared.MaxRecallMessages
)

// Ledger tells a user what became of each step of a recall: of its messages in the conversations that the user may
// read, as ForUser shows them. A recall of others is answered like one that does not exist. One call examines about
// 10,000 messages: among more that the user may not read, a page may be short or empty and have More. The cursor is
// like that of Since. The Tenant of req is ignored.
func (a *Adapter) Ledger(ctx context.Context, user string, req shared.LedgerRequest) (shared.LedgerPage, error) {
	recall, err := a.plugin(ctx)
	if err != nil {
		return shared.LedgerPage{}, err
	}
	if req.Limit < 0 || req.Limit > shared.MaxLedgerLimit {
		return shared.LedgerPage{}, shared.Invalidf("limit", "is %d; 0 to %d", req.Limit, shared.MaxLedgerLimit)
	}
	limit := cmp.Or(req.Limit, shared.MaxLedgerLimit)
	size := min(max(limit+1, minLedgerChunk), shared.MaxLedgerLimit)
	roles := a.rolesOf(user)
	page := shared.LedgerPage{Entries: []shared.LedgerEntry{}, Next: req.After}
	next := shared.LedgerRequest{Tenant: a.tenant, RecallID: req.RecallID, After: req.After, Limit: size}
	for examined := 0; examined < maxLedgerRead; {
		chunk, err := recall.Ledger(ctx, next)
		if err != nil {
			return shared.LedgerPage{}, err
		}
		if chunk.Reset {
			return shared.LedgerPage{Entries: []shared.LedgerEntry{}, Reset: true}, nil
		}
		visible, ends, err := visibleEntries(ctx, roles, chunk.Entries)
		if err != nil {
			return shared.LedgerPage{}, err
		}
		examined += len(chunk.Entries)
		if free := limit - len(page.Entries); len(visible) > free {
			if page.More = true; free == 0 {
				return page, nil
			}
			next.Limit = ends[free-1] // again, up to the last one that fits: the cursor must be behind that
			continue
		}
		if page.Entries = append(page.Entries, visible...); len(visible) > 0 { // else it would tell that the recall exists
			page.Next = chunk.Next
		}
		if page.More || !chunk.More {
			return page, nil
		}
		size = min(2*size, shared.MaxLedgerLimit)
		next.After, next.Limit = chunk.Next, size
	}
	page.Next, page.More = next.After, true
	return page, nil
}

// visibleEntries are those that a user may read, as ForUser shows them, and for each how many entries there are up to
// it.
func visibleEntries(ctx context.Context, roles *roles, entries []shared.LedgerEntry) (visible []shared.LedgerEntry,
	ends []int, err error) {
	for i, e := range entries {
		_, reads, err := roles.in(ctx, e.Event.Message.Conversation)
		if err != nil {
			return nil, nil, err
		}
		if !reads {
			continue
		}
		e.Event = ForUser(e.Event, roles.user)
		for i := range e.Steps {
			e.Steps[i].Error = "" // of the server
		}
		visible, ends = append(visible, e), append(ends, i+1)
	}
	return visible, ends, nil
}

// ForUser returns an event without the parts that the user must not see. The user may read the conversation. Only the
// sender and the actor see the facts of the message, because others may never have received it. Only the actor sees the
// reason, unless the rules put it into the placeholder. Nobody sees what concerns the server.
func ForUser(e shared.Event, user string) shared.Event {
	e = FillReason(e)
	e.Rule, e.PolicyDigest, e.Disposition, e.Retention = ruleFor(e.Rule), "", "", 0
	e.Message.Labels, e.Message.Ref = nil, ""
	e.Related, e.MoreRelated, e.Cause, e.Message.Relations = nil, false, nil, nil // of conversations of others, too
	if user != e.Actor.ID {
		e.Reason, e.Actor.Labels = "", nil
		if user != e.Message.Sender {
			m := e.Message
			e.Message = shared.Message{Tenant: m.Tenant, ID: m.ID, Conversation: m.Conversation}
			e.Attachments = nil
		}
	}
	return e
}

// FillReason puts the reason into the texts of the placeholder that ask for it: an event for users has no reason, and
// where no text asks for it, it is nobody's to read. The other fields are for each client to fill in, which knows who
// reads; so there are no brackets in a reason.
func FillReason(e shared.Event) shared.Event {
	reason := strings.NewReplacer("{", "(", "}", ")").Replace(e.Reason)
	e.Placeholder = maps.Clone(e.Placeholder)
	for language, text := range e.Placeholder {
		e.Placeholder[language] = strings.ReplaceAll(text, "{reason}", reason)
	}
	return e
}
