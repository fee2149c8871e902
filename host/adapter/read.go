package adapter

import (
	"context"
	"errors"
	"slices"

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
	for i := range page.Events {
		page.Events[i] = ForUser(page.Events[i], user)
	}
	return page, err
}

// Ledger tells a user what became of each step of a recall: of its messages in the conversations that the user may
// read, as in Since.
func (a *Adapter) Ledger(ctx context.Context, user string, req shared.LedgerRequest) (shared.LedgerPage, error) {
	recall, err := a.plugin(ctx)
	if err != nil {
		return shared.LedgerPage{}, err
	}
	req.Tenant = a.Tenant
	page, err := recall.Ledger(ctx, req)
	if err != nil {
		return page, err
	}
	roles := make(map[shared.Conversation]shared.Role)
	var failed error
	page.Entries = slices.DeleteFunc(page.Entries, func(e shared.LedgerEntry) bool {
		c := e.Event.Message.Conversation
		role, known := roles[c]
		if !known {
			var err error
			role, err = a.Platform.Role(ctx, user, c)
			failed = errors.Join(failed, err)
			roles[c] = role
		}
		return role == shared.RoleNone
	})
	if failed != nil {
		return shared.LedgerPage{}, failed
	}
	for i := range page.Entries {
		page.Entries[i].Event = ForUser(page.Entries[i].Event, user)
	}
	return page, nil
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
