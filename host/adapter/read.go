package adapter

import (
	"context"
	"maps"
	"strconv"
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

// Ledger tells a user what became of each step of a recall: of its messages in the conversations that the user may
// read, as ForUser shows them. A recall of others is answered like one that does not exist. The Tenant of req is
// ignored.
func (a *Adapter) Ledger(ctx context.Context, user string, req shared.LedgerRequest) (shared.LedgerPage, error) {
	recall, err := a.plugin(ctx)
	if err != nil {
		return shared.LedgerPage{}, err
	}
	first := 0 // cursors count what the user may read: those of the index would tell of the rest
	if req.After != "" {
		if first, err = strconv.Atoi(req.After); err != nil || first < 0 {
			return shared.LedgerPage{}, shared.Invalidf("after", "is not a cursor of a ledger")
		}
	}
	if req.Limit < 0 || req.Limit > shared.MaxLedgerLimit {
		return shared.LedgerPage{}, shared.Invalidf("limit", "is %d; 0 to %d", req.Limit, shared.MaxLedgerLimit)
	}
	all, err := shared.ReadLedger(ctx, recall, a.tenant, req.RecallID)
	if err != nil {
		return shared.LedgerPage{}, err
	}
	roles := a.rolesOf(user)
	page := shared.LedgerPage{Entries: []shared.LedgerEntry{}}
	limit, seen := req.Limit, 0
	if limit == 0 {
		limit = shared.MaxLedgerLimit
	}
	for _, e := range all {
		_, reads, err := roles.in(ctx, e.Event.Message.Conversation)
		if err != nil {
			return shared.LedgerPage{}, err
		}
		if !reads {
			continue
		}
		if seen++; seen <= first {
			continue
		}
		if len(page.Entries) == limit {
			page.More = true
			break
		}
		e.Event = ForUser(e.Event, user)
		for i := range e.Steps {
			e.Steps[i].Error = "" // of the server
		}
		page.Entries = append(page.Entries, e)
	}
	page.Next = strconv.Itoa(first + len(page.Entries))
	return page, nil
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
