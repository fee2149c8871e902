package engine

import (
	"fmt"
	"slices"
	"sync"
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

// What would go with a recalled message is judged as if it were asked for itself: a hold on a message holds its edits,
// and a hold on an edit its message.
func TestRelations_HeldEditsStay(t *testing.T) {
	r := newActive(t, cascading)
	message := func(id, label string, relations ...shared.Relation) shared.Message {
		m := r.message(id)
		m.Relations = relations
		if label != "" {
			m.Labels = []string{label}
		}
		return m
	}
	edits := func(id string) shared.Relation { return shared.Relation{Kind: shared.RelationEdit, MessageID: id} }
	quotes := func(id string) shared.Relation { return shared.Relation{Kind: shared.RelationQuote, MessageID: id} }
	r.index(message("m", ""), message("held", "hold"), message("free", ""), // whose edits quote m
		message("quote", "", quotes("m")), message("quote 2", "hold", edits("quote")),
		message("held 2", "", edits("held"), quotes("m")), message("free 2", "", edits("free"), quotes("m")))
	for _, id := range []string{"quote", "held 2"} {
		if got := r.recall(request("no", id))[0]; got.Status != shared.StatusDenied {
			t.Errorf("%s: %+v", id, got)
		}
	}
	if got := r.recall(request("r", "m"))[0]; got.Status != shared.StatusRecalled ||
		!slices.Equal(got.With, []string{"free 2"}) {
		t.Errorf("%+v", got)
	}
	if got := r.indexOne(message("held 3", "", edits("held"), quotes("m"))); got != shared.IndexAdded {
		t.Errorf("late: %s", got)
	}
	for id, want := range map[string]shared.MessageState{
		"quote": shared.MessageLive, "held 2": shared.MessageLive, "held 3": shared.MessageLive,
		"free": shared.MessageLive, "free 2": shared.MessageRecalled,
	} {
		if got := r.state(id); got != want {
			t.Errorf("%s is %s", id, got)
		}
	}
}

// The first message of an index that has a relation is judged as its original, too.
func TestRelations_FirstOfTheIndex(t *testing.T) {
	edit := func(r *rig) shared.Message {
		held, m := r.message("held"), r.message("edit")
		held.Labels = []string{"hold"}
		m.Relations = []shared.Relation{{Kind: shared.RelationEdit, MessageID: "held"}}
		r.index(held)
		return m
	}
	t.Run("its recall waits", func(t *testing.T) {
		r := newActive(t, cascading)
		m := edit(r)
		r.recall(wait("w", "edit"))
		if got := r.indexOne(m); got != shared.IndexAdded || !slices.Equal(r.waits(), []string{"edit w refused forbidden"}) {
			t.Errorf("%s, waits %q", got, r.waits())
		}
	})
	t.Run("its recall has it", func(t *testing.T) {
		r := newActive(t, cascading)
		m := edit(r)
		req := request("r", "edit")
		req.Targets[0].Message = &m
		if got := r.recall(req)[0]; got.Status != shared.StatusDenied {
			t.Errorf("%+v", got)
		}
	})
}

// Three nodes write a message, its edits and quotes, recalls that wait for it and a recall, all at once. Whatever comes
// first, everything is recalled on every node, and the indexes are equal.
func TestRelations_RaceInACluster(t *testing.T) {
	c := newMemoryCluster()
	nodes := []*rig{c.newNode(t, "a"), c.newNode(t, "b"), c.newNode(t, "c")}
	const messages, edits = 8, 3
	edit := func(id, of string) shared.Message {
		m := nodes[0].message(id)
		m.Relations = []shared.Relation{{Kind: shared.RelationEdit, MessageID: of}}
		return m
	}
	var ids []string
	var running sync.WaitGroup
	do := func(n int, f func(*rig) error) {
		running.Go(func() {
			if err := f(nodes[n%len(nodes)]); err != nil {
				t.Error(err)
			}
		})
	}
	for i := range messages {
		id := fmt.Sprint("m", i)
		ids = append(ids, id)
		for k := range 2 {
			do(i+k, func(r *rig) error {
				_, err := r.Index(t.Context(), []shared.Message{nodes[0].message(id)})
				return err
			})
		}
		for k := range edits {
			e := edit(fmt.Sprint(id, "e", k), id)
			ids = append(ids, e.ID)
			do(k, func(r *rig) error {
				_, err := r.Index(t.Context(), []shared.Message{e})
				return err
			})
		}
		for k := range 3 {
			do(i+k, func(r *rig) error {
				_, err := r.Recall(t.Context(), wait(fmt.Sprint("w", k, id), id))
				return err
			})
		}
	}
	running.Wait()
	for n, r := range nodes {
		if err := r.active.log.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		states, err := r.Status(t.Context(), "acme", ids)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range states {
			if s.State != shared.MessageRecalled {
				t.Errorf("node %d: %s is %s", n, s.MessageID, s.State)
			}
		}
		if r.waits() != nil {
			t.Errorf("node %d: waits %q", n, r.waits())
		}
	}
	for n, r := range nodes { // nothing changes any more
		if at, first := r.active.index.Log(), nodes[0].active.index.Log(); at != first {
			t.Errorf("node %d is at entry %d with the sum %x, the first one at %d with %x", n, at.Position, at.Sum,
				first.Position, first.Sum)
		}
	}
}
