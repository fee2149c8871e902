package chat

import (
	"net/http"
	"time"

	"github.com/chat-recall/recall/host/adapter"
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
	if err := adapter.ReadJSON(r, maxBodyBytes, &in); err != nil {
		return nil, err
	}
	ask := adapter.Ask{MessageIDs: []string{in.MessageID}, Reason: in.Reason}
	explained, err := a.server.adapter.Explain(r.Context(), in.Actor, ask)
	if err != nil {
		return nil, err
	}
	if explained[0].Result.Status == shared.StatusNotFound {
		return nil, shared.Invalidf("message_id",
			"does not exist, or the actor is not in the conversation, so the server does not even ask the rules")
	}
	return explained[0], nil
}

// operatorRules lists the rules with their places: those that are asked about a message that has nothing special.
func (a *api) operatorRules(r *http.Request) (any, error) {
	room := shared.Conversation{Type: shared.ConversationGroup, ID: "any"}
	target := shared.Target{MessageID: "any", Conversation: room, Message: &shared.Message{
		Tenant: Tenant, ID: "any", Conversation: room, Sender: "anyone", Type: shared.TypeText, SentAt: time.Now(),
	}}
	explained, err := a.server.recall.Explain(r.Context(), shared.RecallRequest{
		Tenant: Tenant, Targets: []shared.Target{target}, Actor: shared.Actor{ID: "anyone"},
	})
	if err != nil {
		return shared.Explanation{}, err
	}
	return explained[0], nil
}
