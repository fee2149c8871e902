package adapter

import (
	"context"

	"github.com/chat-recall/recall/shared"
)

// Since pages through the recalls of some conversations of a user after a cursor. The Tenant of req is ignored. If the
// user may not read one of the conversations, the error is ErrNotVisible.
//
// What a message was is told to who sent it and who recalled it alone: others may never have got it. A reason is told
// to who gave it alone.
func (a *Adapter) Since(ctx context.Context, user string, req shared.SinceRequest) (shared.EventPage, error) {
	recall, err := a.plugin(ctx)
	if err != nil {
		return shared.EventPage{}, err
	}
	for _, c := range req.Conversations[:min(len(req.Conversations), shared.MaxSinceConversations)] {
		role, err := a.Platform.Role(ctx, user, c)
		if err != nil {
			return shared.EventPage{}, err
		}
		if role == shared.RoleNone {
			return shared.EventPage{}, ErrNotVisible
		}
	}
	req.Tenant = a.Tenant
	page, err := recall.Since(ctx, req)
	if page.Events == nil {
		page.Events = []shared.Event{}
	}
	for i := range page.Events {
		page.Events[i] = ForUser(page.Events[i], user)
	}
	return page, err
}

// Ledger tells a user what became of each step of a recall: of its messages in the conversations that the user may
// read, as in Since. A recall of others is answered like one that does not exist.
func (a *Adapter) Ledger(ctx context.Context, user string, req shared.LedgerRequest) (shared.LedgerPage, error) {
	recall, err := a.plugin(ctx)
	if err != nil {
		return shared.LedgerPage{}, err
	}
	req.Tenant = a.Tenant
	none := shared.LedgerPage{Entries: []shared.LedgerEntry{}, Next: req.After}
	roles := make(map[shared.Conversation]shared.Role)
	for {
		page, err := recall.Ledger(ctx, req)
		if err != nil || page.Reset {
			return page, err
		}
		visible := none.Entries
		for _, e := range page.Entries {
			c := e.Event.Message.Conversation
			role, known := roles[c]
			if !known {
				if role, err = a.Platform.Role(ctx, user, c); err != nil {
					return shared.LedgerPage{}, err
				}
				roles[c] = role
			}
			if role != shared.RoleNone {
				e.Event = ForUser(e.Event, user)
				visible = append(visible, e)
			}
		}
		switch {
		case len(visible) > 0:
			page.Entries = visible
			return page, nil
		case !page.More:
			return none, nil
		}
		req.After = page.Next
	}
}

// ForUser is an event as a user may read it who may read its conversation.
func ForUser(e shared.Event, user string) shared.Event {
	if user != e.Actor.ID {
		e.Reason = ""
	}
	if m := e.Message; user != m.Sender && user != e.Actor.ID {
		e.Message = shared.Message{Tenant: m.Tenant, ID: m.ID, Conversation: m.Conversation}
		e.Attachments = nil
	}
	return e
}
