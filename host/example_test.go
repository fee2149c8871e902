package host_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

// exampleT stands for the *testing.T of an example.
type exampleT struct {
	testing.TB
	cleanups []func()
}

func (t *exampleT) Helper()          {}
func (t *exampleT) Cleanup(f func()) { t.cleanups = append(t.cleanups, f) }
func (t *exampleT) Fatal(args ...any) {
	panic(fmt.Sprint(args...))
}

func (t *exampleT) TempDir() string {
	dir, err := os.MkdirTemp("", "recall")
	if err != nil {
		panic(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (t *exampleT) end() {
	for len(t.cleanups) > 0 {
		last := len(t.cleanups) - 1
		t.cleanups[last]()
		t.cleanups = t.cleanups[:last]
	}
}

// open opens a host for an example.
func open(steps map[string]host.Step) (*host.Host, func()) {
	t := new(exampleT)
	return hosttest.Open(t, host.Config{Steps: steps}), t.end
}

// A history is a history store.
type history map[string]string

func (h history) remove(_ context.Context, d shared.Delivery) (shared.Outcome, error) {
	if _, found := h[d.Message.ID]; !found {
		return shared.OutcomeNothingToDo, nil
	}
	delete(h, d.Message.ID)
	return shared.OutcomeDone, nil
}

func (h history) isGone(_ context.Context, d shared.Delivery) error {
	if _, found := h[d.Message.ID]; found {
		return errors.New("the message can still be read")
	}
	return nil
}

var (
	ctx  = context.Background()
	team = shared.Conversation{Type: shared.ConversationGroup, ID: "team"}
)

func textMessage(id string) shared.Message {
	return shared.Message{
		Tenant: "acme", ID: id, Conversation: team, Sender: "ann", Type: shared.TypeText, SentAt: time.Now(),
	}
}

// A server opens its plugin, indexes what it accepts, and recalls what a user takes back.
func Example() {
	t := new(exampleT)
	defer t.end()
	file, runDir := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), t.TempDir()), hosttest.RunDir(t)
	store, m, role := history{"m1": "wrong room"}, textMessage("m1"), shared.RoleMember

	recall, err := host.Open(ctx, host.Config{
		File: file, RunDir: runDir,
		Steps: map[string]host.Step{shared.StepHistory: {Run: store.remove, Verify: store.isGone}},
	})
	if err != nil {
		panic(err)
	}
	defer recall.Close()

	// For each message you accept, before you acknowledge it.
	indexed, err := recall.Index(ctx, []shared.Message{m})
	if err != nil {
		panic(err)
	}

	// When somebody takes it back.
	recalled, err := recall.Recall(ctx, shared.RecallRequest{
		Tenant: "acme", Actor: shared.Actor{ID: "ann"},
		Targets: []shared.Target{{MessageID: m.ID, Conversation: m.Conversation, Role: role}},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(indexed[0].Status, recalled[0].Status)
	// Output: indexed recalled
}

func ExampleOpen() {
	t := new(exampleT)
	defer t.end()
	file, store := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), t.TempDir()), history{"m1": "wrong room"}
	logger, runDir := slog.New(slog.DiscardHandler), hosttest.RunDir(t)

	recall, err := host.Open(ctx, host.Config{
		File:   file,                  // the plugin.hcl: which binary to run, and where the index is
		Logger: host.FromSlog(logger), // the plugin's log comes with it
		Steps: map[string]host.Step{
			shared.StepHistory: {Run: store.remove, Verify: store.isGone},
		},
		RunDir: runDir, // private to this server; if empty, a folder in the user's cache
	})
	if err != nil {
		panic(err)
	}
	defer recall.Close()
	fmt.Println(recall.State().Phase)
	// Output: running
}

func ExampleHost_Index() {
	recall, end := open(nil)
	defer end()

	results, err := recall.Index(ctx, []shared.Message{textMessage("m1"), {Tenant: "acme", ID: "m2"}})
	if err != nil {
		panic(err) // not answered: keep the message, and index it again later
	}
	for _, r := range results {
		switch r.Status {
		case shared.IndexAdded, shared.IndexUnchanged:
			fmt.Println(r.MessageID, "deliver it")
		case shared.IndexRecalled:
			fmt.Println(r.MessageID, "do not deliver it: it was recalled")
		case shared.IndexConflict:
			fmt.Println(r.MessageID, "refuse it: its id is that of another message")
		case shared.IndexInvalid:
			fmt.Println(r.MessageID, "refuse it:", r.Field)
		}
	}
	// Output:
	// m1 deliver it
	// m2 refuse it: conversation.type
}

func ExampleHost_Amend() {
	recall, end := open(nil)
	defer end()
	if _, err := recall.Index(ctx, []shared.Message{textMessage("m1")}); err != nil {
		panic(err)
	}

	amended, err := recall.Amend(ctx, []shared.Amendment{{
		Tenant: "acme", MessageID: "m1", Labels: []string{"reported"}, // instead of the labels that it had
	}})
	if err != nil {
		panic(err) // not answered: repeat the call
	}
	fmt.Println(amended[0].MessageID, amended[0].Status)
	// Output: m1 amended
}

func ExampleHost_Recall() {
	store := history{"m1": "wrong room"}
	recall, end := open(map[string]host.Step{shared.StepHistory: {Run: store.remove}})
	defer end()
	if _, err := recall.Index(ctx, []shared.Message{textMessage("m1")}); err != nil {
		panic(err)
	}

	for _, user := range []string{"ben", "ann"} {
		results, err := recall.Recall(ctx, shared.RecallRequest{
			Tenant:  "acme",
			Actor:   shared.Actor{ID: user},
			Targets: []shared.Target{{MessageID: "m1", Conversation: team, Role: shared.RoleMember}},
		})
		if err != nil {
			panic(err)
		}
		switch r := results[0]; r.Status {
		case shared.StatusRecalled, shared.StatusAlreadyRecalled:
			if err := recall.Wait(ctx, "acme", r.RecallID); err != nil {
				panic(err)
			}
			fmt.Println(r.Status, len(store))
		default:
			fmt.Println(r.Status, r.Code, r.Text["en"])
		}
	}
	// Output:
	// denied forbidden You can't recall this message.
	// recalled 0
}

// A server that does not index a message before it acknowledges it gives its facts with the request.
func ExampleHost_Recall_facts() {
	recall, end := open(nil)
	defer end()

	m := textMessage("m1") // from the server's own store
	results, err := recall.Recall(ctx, shared.RecallRequest{
		Tenant:  "acme",
		Actor:   shared.Actor{ID: "ann"},
		Targets: []shared.Target{{MessageID: m.ID, Conversation: m.Conversation, Role: shared.RoleMember, Message: &m}},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(results[0].Status)
	// Output: recalled
}

// With Atomic, all targets are recalled or none.
func ExampleHost_Recall_atomic() {
	recall, end := open(nil)
	defer end()
	if _, err := recall.Index(ctx, []shared.Message{textMessage("m1")}); err != nil {
		panic(err)
	}

	results, err := recall.Recall(ctx, shared.RecallRequest{
		Tenant: "acme",
		Actor:  shared.Actor{ID: "ann"},
		Targets: []shared.Target{
			{MessageID: "m1", Conversation: team, Role: shared.RoleMember},
			{MessageID: "unknown", Conversation: team, Role: shared.RoleMember},
		},
		Atomic: true,
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(results[0].Status, results[1].Status)
	// Output: aborted not_found
}

// Edits go with their original. Quotes stay, and the event names them.
func ExampleHost_Index_relations() {
	recall, end := open(nil)
	defer end()
	edit, quote := textMessage("m2"), textMessage("m3")

	edit.Relations = []shared.Relation{{Kind: shared.RelationEdit, MessageID: "m1"}}
	quote.Relations = []shared.Relation{{Kind: shared.RelationQuote, MessageID: "m2"}}
	if _, err := recall.Index(ctx, []shared.Message{textMessage("m1"), edit, quote}); err != nil {
		panic(err)
	}
	if _, err := recall.Recall(ctx, shared.RecallRequest{
		Tenant: "acme", Actor: shared.Actor{ID: "ann"}, RecallID: "r1",
		Targets: []shared.Target{{MessageID: "m1", Conversation: team, Role: shared.RoleMember}},
	}); err != nil {
		panic(err)
	}

	entries, err := shared.ReadLedger(ctx, recall, "acme", "r1")
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		fmt.Println("remove", e.Event.Message.ID)
		for _, r := range e.Event.Related {
			fmt.Println("remove its text from the", r.Kind, r.MessageID)
		}
	}

	late := textMessage("m4")
	late.Relations = []shared.Relation{{Kind: shared.RelationQuote, MessageID: "m1"}}
	results, err := recall.Index(ctx, []shared.Message{late})
	if err != nil {
		panic(err)
	}
	for _, r := range results[0].Related {
		fmt.Println("deliver m4 without the text of", r.MessageID)
	}
	// Output:
	// remove m1
	// remove m2
	// remove its text from the quote m3
	// deliver m4 without the text of m1
}

// A recall may come before its message.
func ExampleHost_Recall_wait() {
	recall, end := open(nil)
	defer end()

	recalled, err := recall.Recall(ctx, shared.RecallRequest{
		Tenant: "acme", Actor: shared.Actor{ID: "ann"},
		Targets: []shared.Target{{MessageID: "m1", Conversation: team, Role: shared.RoleMember}},
		Wait:    24 * time.Hour,
	})
	if err != nil {
		panic(err)
	}
	indexed, err := recall.Index(ctx, []shared.Message{textMessage("m1")}) // it was on its way
	if err != nil {
		panic(err)
	}
	fmt.Println(recalled[0].Status, indexed[0].Status)
	// Output: waiting recalled
}

// Status is the filter of everything that is delivered late.
func ExampleHost_Status() {
	recall, end := open(nil)
	defer end()
	if _, err := recall.Index(ctx, []shared.Message{textMessage("m1")}); err != nil {
		panic(err)
	}

	queue := []string{"m1", "m2"}
	states, err := recall.Status(ctx, "acme", queue)
	if err != nil {
		panic(err) // deliver nothing: ask again later
	}
	for _, s := range states {
		if s.State == shared.MessageLive {
			fmt.Println("deliver", s.MessageID)
		}
	}
	// Output: deliver m1
}

// Since gives a client that was away the recalls that it missed.
func ExampleHost_Since() {
	recall, end := open(nil)
	defer end()
	m := textMessage("m1")
	if _, err := recall.Recall(ctx, shared.RecallRequest{
		Tenant: "acme", Actor: shared.Actor{ID: "ann"}, RecallID: "r1",
		Targets: []shared.Target{{MessageID: m.ID, Conversation: team, Role: shared.RoleMember, Message: &m}},
	}); err != nil {
		panic(err)
	}

	cursor := "" // as the client kept it; empty for a client that has none
	for more := true; more; {
		page, err := recall.Since(ctx, shared.SinceRequest{
			Tenant: "acme", Conversations: []shared.Conversation{team}, After: cursor,
		})
		if err != nil {
			panic(err)
		}
		if page.Reset {
			cursor = "" // the index was restored: the client starts over
			continue
		}
		for _, e := range page.Events {
			fmt.Println("remove", e.Message.ID)
		}
		cursor, more = page.Next, page.More
	}
	// Output: remove m1
}

// List tells an auditor what was recalled.
func ExampleHost_List() {
	recall, end := open(nil)
	defer end()
	m := textMessage("m1")
	if _, err := recall.Recall(ctx, shared.RecallRequest{
		Tenant: "acme", Actor: shared.Actor{ID: "ann"}, RecallID: "r1",
		Targets: []shared.Target{{MessageID: m.ID, Conversation: team, Role: shared.RoleMember, Message: &m}},
	}); err != nil {
		panic(err)
	}

	lastWeek := time.Now().AddDate(0, 0, -7)
	filter := shared.ListRequest{Tenant: "acme", Actor: "ann", From: lastWeek}
	for page, err := range shared.ListPages(ctx, recall.List, filter) {
		if err != nil {
			panic(err)
		}
		for _, e := range page.Events {
			fmt.Println(e.Actor.ID, "recalled", e.Message.ID, "by rule", e.Rule.Name)
		}
	}
	// Output: ann recalled m1 by rule sender_in_window
}

// A recalled message that was forgotten stays recalled.
func ExampleHost_Forget() {
	recall, end := open(nil)
	defer end()
	m := textMessage("m1")
	if _, err := recall.Recall(ctx, shared.RecallRequest{
		Tenant: "acme", Actor: shared.Actor{ID: "ann"}, RecallID: "r1",
		Targets: []shared.Target{{MessageID: m.ID, Conversation: team, Role: shared.RoleMember, Message: &m}},
	}); err != nil {
		panic(err)
	}

	for {
		r, err := recall.Forget(ctx, shared.ForgetRequest{Tenant: "acme", Sender: "ann"})
		if err != nil {
			panic(err)
		}
		if r.Done {
			break
		}
		time.Sleep(time.Second)
	}
	if _, err := recall.Compact(ctx); err != nil { // now no file has a byte of it
		panic(err)
	}

	status, err := recall.Status(ctx, "acme", []string{"m1"})
	if err != nil {
		panic(err)
	}
	fmt.Println(status[0].State, status[0].Message == nil)
	// Output: recalled true
}

// A step that somebody else carries out is deferred and settled later.
func ExampleHost_StartJob() {
	recall, end := open(nil)
	defer end()
	var spam []shared.Message
	for i := range 3 {
		m := textMessage(fmt.Sprint("m", i))
		m.Sender = "eve"
		spam = append(spam, m)
	}
	if _, err := recall.Index(ctx, spam); err != nil {
		panic(err)
	}

	job := shared.JobRequest{
		Tenant: "acme", JobID: "3d0a7c1e", Reason: "spam",
		Filter: shared.JobFilter{Sender: "eve", Conversation: &team, From: time.Now().Add(-time.Hour)},
		Actor:  shared.Actor{ID: "ben"}, Role: shared.RoleAdmin, // of ben in team
	}
	preview, err := shared.PreviewJob(ctx, recall, job, nil)
	if err != nil {
		panic(err)
	}
	fmt.Println("can be removed:", preview.Counts.Recalled, "refused:", preview.Counts.Denied)
	state, err := recall.StartJob(ctx, job)
	for err == nil && state.State == shared.JobRunning {
		fmt.Fprintf(os.Stderr, "%d of about %d messages examined\n", state.Examined, state.Total)
		time.Sleep(50 * time.Millisecond)
		state, err = recall.JobStatus(ctx, "acme", job.JobID)
	}
	if err != nil {
		panic(err)
	}
	fmt.Println(state.State, state.Counts.Recalled)
	// Output:
	// can be removed: 3 refused: map[]
	// done 3
}

func ExampleHost_Settle() {
	jobs := make(chan string, 1)
	recall, end := open(map[string]host.Step{
		shared.StepSearch: {Run: func(_ context.Context, d shared.Delivery) (shared.Outcome, error) {
			jobs <- d.Key()
			return shared.OutcomeDeferred, nil
		}},
	})
	defer end()
	m := textMessage("m1")
	if _, err := recall.Recall(ctx, shared.RecallRequest{
		Tenant: "acme", Actor: shared.Actor{ID: "ann"}, RecallID: "r1",
		Targets: []shared.Target{{MessageID: m.ID, Conversation: team, Role: shared.RoleMember, Message: &m}},
	}); err != nil {
		panic(err)
	}

	key := <-jobs // in the search service, once the message is gone from it
	if err := recall.Settle(ctx, key, shared.StepSearch, shared.OutcomeDone, nil); err != nil {
		panic(err)
	}
	fmt.Println(recall.Wait(ctx, "acme", "r1"))
	// Output: <nil>
}
