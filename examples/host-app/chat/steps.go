package chat

import (
	"context"
	"fmt"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// steps are what a recall means to this server.
func (s *Server) steps() map[string]host.Step {
	return map[string]host.Step{
		shared.StepNotify:      {Run: s.notify},
		shared.StepHistory:     {Run: s.removeFromHistory},
		shared.StepOffline:     s.remove(s.store.Dequeue),
		shared.StepRoaming:     s.remove(s.store.Unroam),
		shared.StepAttachments: {Run: s.deleteFiles},
	}
}

// remove is a step that takes the message out of one place of the store.
func (s *Server) remove(from func(ctx context.Context, id string, room shared.Conversation) (bool, error)) host.Step {
	return host.Step{Run: func(ctx context.Context, d shared.Delivery) (shared.Outcome, error) {
		found, err := from(ctx, d.Message.ID, d.Message.Conversation)
		return outcome(found), err
	}}
}

// removeFromHistory archives the message if the recall says so, leaves its placeholder in its place, and removes what
// quotes repeat of it. The history has the last copy of a text.
func (s *Server) removeFromHistory(ctx context.Context, d shared.Delivery) (shared.Outcome, error) {
	if err := s.archiveText(ctx, d); err != nil {
		return "", err
	}
	if err := s.clearQuotes(ctx, &d.Event); err != nil {
		return "", err
	}
	if err := s.store.setPlaceholder(ctx, adapter.FillReason(d.Event), nil); err != nil {
		return "", err
	}
	return s.remove(s.store.Remove).Run(ctx, d)
}

func outcome(did bool) shared.Outcome {
	if did {
		return shared.OutcomeDone
	}
	return shared.OutcomeNothingToDo
}

// notify tells everyone concerned: in a single conversation and a group every member, now or when they are back; in a
// chatroom those who are there. The notice includes the facts of the message, but never its text: whoever got the
// message has the text, and nobody else may. A member who never got the message gets a notice without the facts. So
// does a member of whom this is no longer known, because another step ran first and emptied the queues.
//
// In a cluster every server notifies its own clients, and keeps the notice for members who are not connected to it. The
// offline queues, which all servers share, tell who has not got the message. There is one exception: a member who was
// connected to the server of the sender has no entry there. If the recall strikes the message from the queue of that
// member's client, the other servers assume that the member got it.
func (s *Server) notify(ctx context.Context, d shared.Delivery) (shared.Outcome, error) {
	id := d.Message.ID
	inCluster := s.store.node != ""
	if inCluster { // then it is known which clients of this server have it
		if err := s.relayOnce(ctx); err != nil {
			return "", err
		}
	}
	s.hub.Gone(id) // also after a crash between the commit and the answer to Recall

	// Of an edit that is recalled with its original, clients hear by the original, which then shows no text. Of one that
	// is recalled alone they hear themselves: the original then shows the text before it.
	if c := d.Cause; c != nil && c.Kind == shared.RelationEdit {
		s.hub.Settled(id)
		return shared.OutcomeNothingToDo, nil
	}
	received, missed := s.hub.Received(id)
	queued, err := s.store.QueuedFor(ctx, id)
	if err != nil {
		return "", err
	}
	seq, err := s.store.untouched(ctx, id) // after QueuedFor: a step may empty the queues between the two
	if err != nil {
		return "", err
	}
	e := adapter.FillReason(d.Event)
	room := e.Message.Conversation
	had := make(map[string]bool) // by user: whether the user got the message
	for _, member := range s.store.Members(room) {
		user := member.User
		if room.Type == shared.ConversationChatroom && !s.hub.Present(user) {
			continue
		}
		had[user] = user == e.Message.Sender || received[user] ||
			!missed[user] && !queued[user] && member.joined < seq &&
				(room.Type != shared.ConversationChatroom || s.hub.WasPresent(user, seq))
	}
	if err := s.store.setPlaceholder(ctx, e, had); err != nil { // before the notices: whoever has one finds it
		return "", err
	}
	away := s.hub.Notify(e, had, inCluster)
	kept := make(map[string]bool, len(away))
	for _, user := range away {
		if room.Type != shared.ConversationChatroom {
			kept[user] = had[user]
		}
	}
	if err := s.store.Keep(ctx, id, encode(e.Notice(true)), kept, queued); err != nil {
		return "", err
	}
	s.hub.Poke(away) // who came meanwhile
	s.hub.Settled(id)
	return outcome(len(had) > 0), nil
}

// deleteFiles deletes the attachments that the plugin says no live message uses, or moves them to the archive. The
// server looks itself whether a message that was sent since has come to use one: the plugin hears of that message a
// moment after the store.
func (s *Server) deleteFiles(ctx context.Context, d shared.Delivery) (shared.Outcome, error) {
	did := false
	for _, attachment := range d.Attachments {
		if err := s.archiveFile(ctx, d, attachment.Key); err != nil {
			return "", err
		}
		gone := map[string]bool{d.Message.ID: true}
		deleted, keptBy, err := s.files.Delete(ctx, attachment.Key, gone)
		if err != nil {
			return "", err
		}
		if len(keptBy) > 0 {
			states, err := s.states(ctx, keptBy)
			if err != nil {
				return "", err
			}
			for id, state := range states {
				gone[id] = state == shared.MessageRecalled
			}
			gone[d.Message.ID] = true
			if deleted, keptBy, err = s.files.Delete(ctx, attachment.Key, gone); err != nil {
				return "", fmt.Errorf("attachment of a recalled message: %w", err)
			}
			if len(keptBy) > 0 && d.Disposition == shared.DispositionArchive {
				if err := s.archive.DropFile(ctx, attachment.Key); err != nil {
					return "", err
				}
			}
		}
		did = did || deleted
	}
	return outcome(did), nil
}
