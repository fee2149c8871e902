package chat

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"time"

	"github.com/chat-recall/recall/shared"
)

// explainTimeout bounds one run of the plugin's own explain.
const explainTimeout = 10 * time.Second

// operatorExplain tells how the rules decide about a message and an actor, and what of each rule held: the answer of
// "recall-plugin explain", which reads the same files as the plugin and changes nothing. Limits are not counted by it.
func (a *api) operatorExplain(r *http.Request) (any, error) {
	var in struct {
		MessageID string `json:"message_id"`
		Actor     string `json:"actor"`
		Reason    string `json:"reason"`
	}
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	m, found, err := a.server.store.Message(r.Context(), in.MessageID)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, refuse(http.StatusGone, "this message is not there any more")
	}
	member, isMember := a.server.store.Member(m.Conversation, in.Actor)
	if !isMember {
		return nil, shared.Invalidf("actor", "is not in the conversation of the message, so the server does not even ask the rules")
	}
	return a.explain(r.Context(), map[string]any{
		"tenant": m.Tenant, "conversation": m.Conversation.Type, "conversation_id": m.Conversation.ID, "type": m.Type,
		"message_id": m.ID, "labels": m.Labels, "sent_by": m.Sender, "sent_at": m.SentAt.Format(time.RFC3339Nano),
		"age": max(0, time.Since(m.SentAt)).Truncate(time.Microsecond).String(), "actor": in.Actor, "role": member.Role, "reason": in.Reason,
	})
}

// operatorRules lists the rules with their places: those of a case that has nothing special.
func (a *api) operatorRules(r *http.Request) (any, error) {
	explained, err := a.explain(r.Context(), map[string]any{})
	if err != nil {
		return nil, err
	}
	var list struct {
		Rules json.RawMessage `json:"rules"`
	}
	if err := json.Unmarshal(explained, &list); err != nil {
		return nil, fmt.Errorf("read the answer of recall-plugin explain: %w", err)
	}
	return list, nil
}

// explain runs recall-plugin explain. The case goes in by standard input, so nothing that a user chose is an argument.
func (a *api) explain(ctx context.Context, facts map[string]any) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	args := []string{"explain", "--json", "--case", "-"}
	for _, path := range a.plugin.State().Rules.Paths {
		args = append(args, "--rules", path)
	}
	cmd := exec.CommandContext(ctx, a.plugin.State().Binary, args...)
	var out, problem bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(encode(facts)), &out, &problem
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return nil, refuse(http.StatusUnprocessableEntity, "the rule files as they are now are not good: %s%s", problem.Bytes(), out.Bytes())
	case err != nil:
		return nil, fmt.Errorf("run recall-plugin explain: %w", err)
	}
	return out.Bytes(), nil
}
