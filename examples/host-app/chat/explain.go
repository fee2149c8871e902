package chat

import (
	"context"
	"net/http"
	"time"

	"github.com/chat-recall/recall/shared"
)

// operatorExplain tells how the rules decide about a message and an actor, and what of each rule holds. It changes
// nothing, and counts no limits.
func (a *api) operatorExplain(r *http.Request) (any, error) {
	var in struct {
		MessageID string `json:"message_id"`
		Actor     string `json:"actor"`
		Reason    string `json:"reason"`
	}
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	target, err := a.server.target(r.Context(), in.Actor, in.MessageID)
	if err != nil {
		return nil, err
	}
	if target.Role == shared.RoleNone {
		return nil, shared.Invalidf("actor",
			"is not in the conversation of the message, so the server does not even ask the rules")
	}
	return a.explain(r.Context(), in.Actor, in.Reason, target)
}

// operatorRules lists the rules with their places: those that are asked about a message that has nothing special.
func (a *api) operatorRules(r *http.Request) (any, error) {
	room := shared.Conversation{Type: shared.ConversationGroup, ID: "any"}
	return a.explain(r.Context(), "anyone", "", shared.Target{
		MessageID: "any", Conversation: room,
		Message: &shared.Message{
			Tenant: Tenant, ID: "any", Conversation: room, Sender: "anyone", Type: shared.TypeText, SentAt: time.Now(),
		},
	})
}

func (a *api) explain(ctx context.Context, actor, reason string, target shared.Target) (shared.Explanation, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	explained, err := a.server.recall.Explain(ctx, shared.RecallRequest{
		Tenant: Tenant, Targets: []shared.Target{target}, Actor: shared.Actor{ID: actor}, Reason: reason,
	})
	if err != nil {
		return shared.Explanation{}, err
	}
	return explained[0], nil
}
