package host_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

var forgetGroup = shared.Conversation{Type: shared.ConversationGroup, ID: "group"}

// personal is a message in which every text says xyzzy, but for its conversation.
func personal(id string) shared.Message {
	return shared.Message{
		Tenant: "acme", ID: "xyzzy-" + id, Conversation: forgetGroup, Sender: "xyzzy-ann", Type: shared.TypeText,
		SentAt: time.Now(), Attachments: []shared.Attachment{{Key: "xyzzy-file-" + id}}, Ref: "xyzzy-ref",
	}
}

// forgetRequest recalls a message, with texts that say xyzzy.
func personalRecall(m shared.Message) shared.RecallRequest {
	return shared.RecallRequest{
		Tenant: m.Tenant, RecallID: "xyzzy-recall-" + m.ID, Actor: shared.Actor{ID: m.Sender}, Reason: "xyzzy-reason",
		Ext: "xyzzy-ext", Targets: []shared.Target{{MessageID: m.ID, Conversation: m.Conversation}},
	}
}

// anyStep is a step that is done at once.
func anyStep() host.Step {
	return host.Step{Run: func(context.Context, shared.Delivery) (shared.Outcome, error) {
		return shared.OutcomeDone, nil
	}}
}

func forgetSteps() map[string]host.Step {
	return map[string]host.Step{shared.StepNotify: anyStep(), shared.StepAttachments: anyStep()}
}

func mustIndex(t *testing.T, h *host.Host, want shared.IndexStatus, msgs ...shared.Message) {
	t.Helper()
	for first := 0; first < len(msgs); first += shared.MaxIndexBatch {
		results, err := h.Index(t.Context(), msgs[first:min(first+shared.MaxIndexBatch, len(msgs))])
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if r.Status != want {
				t.Fatalf("%s is %s, want %s", r.MessageID, r.Status, want)
			}
		}
	}
}

func mustRecall(t *testing.T, h *host.Host, msgs ...shared.Message) {
	t.Helper()
	for _, m := range msgs {
		r, err := h.Recall(t.Context(), personalRecall(m))
		if err != nil || r[0].Status != shared.StatusRecalled {
			t.Fatalf("recall %s: %+v %v", m.ID, r, err)
		}
		if err := h.Wait(t.Context(), m.Tenant, "xyzzy-recall-"+m.ID); err != nil {
			t.Fatal(err)
		}
	}
}

// forgetAll calls Forget until it is done.
func forgetAll(t *testing.T, h *host.Host, req shared.ForgetRequest) shared.ForgetResult {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		r, err := h.Forget(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if r.Done {
			return r
		}
		if time.Now().After(end) {
			t.Fatalf("it is not done: %+v", r)
		}
	}
}

// filesThatSay lists the files in a folder that contain a text.
func filesThatSay(t *testing.T, dir, text string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		if bytes.Contains(data, []byte(text)) {
			found = append(found, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// wantForgotten checks what is answered about a recalled message that was forgotten.
func wantForgotten(t *testing.T, h *host.Host, m shared.Message) {
	t.Helper()
	mustIndex(t, h, shared.IndexRecalled, m)
	status, err := h.Status(t.Context(), m.Tenant, []string{m.ID})
	want := shared.MessageStatus{MessageID: m.ID, State: shared.MessageRecalled}
	if err != nil || status[0] != want {
		t.Errorf("status %+v %v", status, err)
	}
	req := personalRecall(m)
	req.RecallID = "again"
	req.Targets[0].Message = &m
	for name, ask := range map[string]func(context.Context, shared.RecallRequest) ([]shared.RecallResult, error){
		"recall": h.Recall, "check": h.Check,
	} {
		r, err := ask(t.Context(), req)
		if err != nil || r[0].Status != shared.StatusAlreadyRecalled || r[0].RecallID != "" || r[0].RecalledBy != "" ||
			!r[0].RecalledAt.IsZero() {
			t.Errorf("%s: %+v %v", name, r, err)
		}
	}
	amended, err := h.Amend(t.Context(), []shared.Amendment{{Tenant: m.Tenant, MessageID: m.ID, Labels: []string{"a"}}})
	if err != nil || amended[0].Status != shared.IndexRecalled {
		t.Errorf("amend: %+v %v", amended, err)
	}
	page, err := h.Ledger(t.Context(), shared.LedgerRequest{Tenant: m.Tenant, RecallID: "xyzzy-recall-" + m.ID})
	if err != nil || len(page.Entries) != 0 {
		t.Errorf("ledger: %+v %v", page, err)
	}
}

func TestForget_NoByteIsLeft(t *testing.T) {
	for name, what := range map[string]shared.ForgetRequest{
		"sender":       {Tenant: "acme", Sender: "xyzzy-ann"},
		"conversation": {Tenant: "acme", Conversation: forgetGroup},
		"before":       {Tenant: "acme", Before: time.Now().Add(time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := host.Config{Steps: forgetSteps(), Index: host.IndexConfig{Path: filepath.Join(dir, "index")}}
			h := hosttest.Open(t, c)
			live, gone := personal("live"), personal("gone")
			other := shared.Message{
				Tenant: "other", ID: "m", Conversation: forgetGroup, Sender: "bob", Type: shared.TypeText, SentAt: time.Now(),
			}
			mustIndex(t, h, shared.IndexAdded, live, gone, other)
			mustRecall(t, h, gone)
			before, err := h.Since(t.Context(), shared.SinceRequest{
				Tenant: "acme", Conversations: []shared.Conversation{forgetGroup},
			})
			if err != nil || len(before.Events) != 1 {
				t.Fatalf("%+v %v", before, err)
			}
			if len(filesThatSay(t, dir, "xyzzy")) == 0 {
				t.Fatal("nothing to be found")
			}
			if r := forgetAll(t, h, what); r.Live != 1 || r.Recalled != 1 || r.Waiting != 0 {
				t.Errorf("%+v", r)
			}
			if r, err := h.Compact(t.Context()); err != nil || r.Took <= 0 || r.Held <= 0 {
				t.Fatalf("%+v %v", r, err)
			}
			if found := filesThatSay(t, dir, "xyzzy"); found != nil {
				t.Errorf("found in %q", found)
			}
			check := func(h *host.Host) {
				t.Helper()
				wantForgotten(t, h, gone)
				status, err := h.Status(t.Context(), "acme", []string{live.ID})
				if err != nil || status[0].State != shared.MessageUnknown {
					t.Errorf("the live message: %+v %v", status, err)
				}
				req := personalRecall(live)
				if r, err := h.Recall(t.Context(), req); err != nil || r[0].Status != shared.StatusNotFound {
					t.Errorf("the live message: %+v %v", r, err)
				}
				if status, err := h.Status(t.Context(), "other", []string{"m"}); err != nil ||
					status[0].State != shared.MessageLive {
					t.Errorf("a message of another tenant: %+v %v", status, err)
				}
				page, err := h.Since(t.Context(), shared.SinceRequest{
					Tenant: "acme", Conversations: []shared.Conversation{forgetGroup}, After: before.Next,
				})
				if err != nil || page.Reset || len(page.Events) != 0 {
					t.Errorf("since: %+v %v", page, err)
				}
			}
			check(h)
			var backup bytes.Buffer
			if err := h.Backup(t.Context(), &backup); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(backup.String(), "xyzzy-r") {
				t.Error("the backup has what was forgotten")
			}
			hosttest.Kill(t, h)
			check(h)
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
			h = hosttest.Open(t, c)
			check(h)
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
			file, to := filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "index")
			if err := os.WriteFile(file, backup.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, stderr, err := hosttest.RunPlugin(t, "index", "restore", file, to); err != nil {
				t.Fatalf("%v %s", err, stderr)
			}
			restored := hosttest.Open(t, host.Config{Steps: forgetSteps(), Index: host.IndexConfig{Path: to}})
			wantForgotten(t, restored, gone)
		})
	}
}

func TestForget_WaitsForOpenSteps(t *testing.T) {
	var works atomic.Bool
	ran := make(chan shared.Delivery, 100)
	h := hosttest.Open(t, host.Config{
		Index: host.IndexConfig{Path: filepath.Join(t.TempDir(), "index")},
		Steps: map[string]host.Step{shared.StepHistory: {
			Run: func(_ context.Context, d shared.Delivery) (shared.Outcome, error) {
				ran <- d
				if !works.Load() {
					return "", errors.New("the store is away")
				}
				return shared.OutcomeDone, nil
			},
		}},
	})
	gone := personal("gone")
	mustIndex(t, h, shared.IndexAdded, gone, personal("live"))
	if r, err := h.Recall(t.Context(), personalRecall(gone)); err != nil || r[0].Status != shared.StatusRecalled {
		t.Fatalf("%+v %v", r, err)
	}
	<-ran
	what := shared.ForgetRequest{Tenant: "acme", Sender: "xyzzy-ann"}
	for range 2 {
		r, err := h.Forget(t.Context(), what)
		if err != nil || r.Done || r.Waiting != 1 || r.Live != 1 {
			t.Fatalf("%+v %v", r, err)
		}
	}
	hosttest.Kill(t, h) // the work goes on in the next process
	works.Store(true)
	if err := h.Retry(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.Wait(t.Context(), "acme", "xyzzy-recall-"+gone.ID); err != nil {
		t.Fatal(err)
	}
	if d := <-ran; d.Message.ID != gone.ID || d.Reason != "xyzzy-reason" {
		t.Errorf("the step got %+v", d)
	}
	if r := forgetAll(t, h, what); r.Waiting != 0 || r.Recalled != 1 {
		t.Errorf("%+v", r)
	}
	wantForgotten(t, h, gone)
}

// inForce returns once a plugin answers.
func inForce(t *testing.T, h *host.Host) {
	t.Helper()
	if _, err := h.Status(t.Context(), "acme", []string{"m"}); err != nil {
		t.Fatal(err)
	}
}

// killAgain kills the plugin once it is in force.
func killAgain(t *testing.T, h *host.Host) {
	t.Helper()
	inForce(t, h)
	hosttest.Kill(t, h)
}

// A plugin that is killed again and again forgets everything all the same, and nothing else.
func TestForget_KilledAtAnyMoment(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	h := hosttest.Open(t, host.Config{Steps: forgetSteps(), Index: host.IndexConfig{Path: filepath.Join(dir, "index")}})
	var all []shared.Message
	for i := range 20_000 {
		m := personal(fmt.Sprint(i))
		if i%4 == 0 {
			m = shared.Message{
				Tenant: "acme", ID: fmt.Sprint("public-", i), Conversation: forgetGroup, Sender: "bob", Type: shared.TypeText,
				SentAt: time.Now(),
			}
		}
		all = append(all, m)
	}
	mustIndex(t, h, shared.IndexAdded, all...)
	recalled := all[1:4]
	mustRecall(t, h, recalled...)
	what := shared.ForgetRequest{Tenant: "acme", Sender: "xyzzy-ann"}
	for range 8 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(150))*time.Millisecond)
		_, _ = h.Forget(ctx, what)
		cancel()
		killAgain(t, h)
	}
	forgetAll(t, h, what)
	for range 4 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(300))*time.Millisecond)
		var compacting sync.WaitGroup
		compacting.Go(func() { _, _ = h.Compact(ctx) })
		<-ctx.Done()
		killAgain(t, h)
		compacting.Wait()
		cancel()
	}
	inForce(t, h)
	if _, err := h.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found := filesThatSay(t, dir, "xyzzy"); found != nil {
		t.Errorf("found in %q", found)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.restoring")); err != nil || left != nil {
		t.Errorf("an unfinished copy: %q %v", left, err)
	}
	for _, m := range recalled {
		wantForgotten(t, h, m)
	}
	for i := 0; i < len(all); i += 4 {
		if i%400 == 0 {
			status, err := h.Status(t.Context(), "acme", []string{all[i].ID, all[i+1].ID})
			if err != nil || status[0].State != shared.MessageLive || status[1].State == shared.MessageLive {
				t.Fatalf("%+v %v", status, err)
			}
		}
	}
}

func TestCompact_WhileCallsGoOn(t *testing.T) {
	h := hosttest.Open(t, host.Config{
		Steps: forgetSteps(), Index: host.IndexConfig{Path: filepath.Join(t.TempDir(), "index")},
	})
	stop := make(chan struct{})
	var callers sync.WaitGroup
	var indexed [8]int
	for c := range indexed {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				m := personal(fmt.Sprint(c, "-", indexed[c]))
				results, err := h.Index(t.Context(), []shared.Message{m})
				if err != nil || results[0].Status != shared.IndexAdded {
					t.Errorf("%+v %v", results, err)
					return
				}
				if indexed[c]%10 == 0 {
					if r, err := h.Recall(t.Context(), personalRecall(m)); err != nil || r[0].Status != shared.StatusRecalled {
						t.Errorf("%+v %v", r, err)
					}
				}
				indexed[c]++
			}
		})
	}
	for range 3 {
		r, err := h.Compact(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", r)
	}
	close(stop)
	callers.Wait()
	state := h.State()
	if state.Restarts != 0 || state.Upgrades != 0 || state.Phase != host.PhaseRunning {
		t.Errorf("%+v", state)
	}
	for c, n := range indexed {
		for i := range n {
			status, err := h.Status(t.Context(), "acme", []string{personal(fmt.Sprint(c, "-", i)).ID})
			want := shared.MessageLive
			if i%10 == 0 {
				want = shared.MessageRecalled
			}
			if err != nil || status[0].State != want {
				t.Fatalf("message %d of caller %d: %+v %v", i, c, status, err)
			}
		}
	}
}

func TestKeepMessages(t *testing.T) {
	c := host.Config{Steps: forgetSteps(), Index: host.IndexConfig{
		Path: filepath.Join(t.TempDir(), "index"), KeepMessages: 30 * 24 * time.Hour,
	}}
	h := hosttest.Open(t, c)
	old, recalled, young := personal("old"), personal("recalled"), personal("young")
	old.SentAt, recalled.SentAt = time.Now().AddDate(0, 0, -31), time.Now().AddDate(0, 0, -31)
	young.SentAt = time.Now().AddDate(0, 0, -29)
	mustIndex(t, h, shared.IndexAdded, old, recalled, young)
	req := personalRecall(recalled)
	req.Targets[0].Role = shared.RoleSystem
	if r, err := h.Recall(t.Context(), req); err != nil || r[0].Status != shared.StatusRecalled {
		t.Fatalf("%+v %v", r, err)
	}
	hosttest.Kill(t, h) // a new process looks for old messages at once, and then every hour
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		status, err := h.Status(t.Context(), "acme", []string{old.ID, recalled.ID, young.ID})
		if err != nil {
			t.Fatal(err)
		}
		if status[1].State != shared.MessageRecalled || status[1].Message == nil || status[2].State != shared.MessageLive {
			t.Fatalf("%+v", status)
		}
		if status[0].State == shared.MessageUnknown {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the old message is kept: %+v", status[0])
		}
	}
	again := personalRecall(old)
	again.Targets[0].Role = shared.RoleSystem
	if r, err := h.Recall(t.Context(), again); err != nil || r[0].Status != shared.StatusNotFound {
		t.Errorf("a recall of a dropped message: %+v %v", r, err)
	}
	again.Targets[0].Message = &old // the server carries the facts
	if r, err := h.Recall(t.Context(), again); err != nil || r[0].Status != shared.StatusRecalled {
		t.Errorf("a recall with its facts: %+v %v", r, err)
	}
}

func TestForget_Refused(t *testing.T) {
	h := hosttest.Open(t, host.Config{Index: host.IndexConfig{Path: filepath.Join(t.TempDir(), "index")}})
	if _, err := h.Forget(t.Context(), shared.ForgetRequest{Tenant: "acme"}); !errors.Is(err, shared.ErrInvalid) {
		t.Errorf("nothing: %v", err)
	}
	if r, err := h.Forget(t.Context(), shared.ForgetRequest{Tenant: "acme", Sender: "nobody"}); err != nil || !r.Done {
		t.Errorf("a sender without messages: %+v %v", r, err)
	}
}
