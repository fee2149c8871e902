package engine

import (
	"testing"

	"github.com/chat-recall/recall/shared"
)

const cascading = `
permit "own" {
  when = actor.is_sender
}
forbid "hold" {
  when = contains(message.labels, "hold")
}
on_recall {
  cascade = ["quote"]
}
`

// A message that the rules forbid to recall stays, whether it comes before the recall or after it.
func TestRelations_HeldStay(t *testing.T) {
	r := newActive(t, cascading)
	quote := func(id, label string) shared.Message {
		m := r.message(id)
		m.Sender, m.Labels = "bob", []string{label}
		m.Relations = []shared.Relation{{Kind: shared.RelationQuote, MessageID: "m"}}
		return m
	}
	r.index(r.message("m"), quote("early", "hold"), quote("gone", "any"))
	if got := r.recall(request("r", "m"))[0]; got.Status != shared.StatusRecalled || len(got.With) != 1 {
		t.Fatalf("%+v", got)
	}
	results, err := r.Index(t.Context(), []shared.Message{quote("late", "hold"), quote("late gone", "any")})
	if err != nil || results[0].Status != shared.IndexAdded || len(results[0].Related) != 1 ||
		results[1].Status != shared.IndexRecalled {
		t.Fatalf("%+v, %v", results, err)
	}
	states, err := r.Status(t.Context(), "acme", []string{"early", "gone", "late", "late gone"})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []shared.MessageState{
		shared.MessageLive, shared.MessageRecalled, shared.MessageLive, shared.MessageRecalled,
	} {
		if states[i].State != want {
			t.Errorf("%s is %s", states[i].MessageID, states[i].State)
		}
	}
}
