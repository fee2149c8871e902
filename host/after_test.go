package host_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

// indexFile indexes a message with an attachment.
func indexFile(t *testing.T, h *host.Host, id string) {
	t.Helper()
	m := message(id)
	m.Attachments = []shared.Attachment{{Key: "file-" + id}}
	got, err := h.Index(within(t), []shared.Message{m})
	if err != nil || got[0].Status != shared.IndexAdded {
		t.Fatalf("index %s: %+v, %v", id, got, err)
	}
}

func TestOpen_AfterThatIsWrong(t *testing.T) {
	in := func(after ...string) host.Step { return host.Step{Run: done, After: after} }
	for _, tc := range []struct {
		steps         map[string]host.Step
		field, reason string
	}{
		{map[string]host.Step{"history": in("notify", "search"), "notify": in()}, "history.After[1]", "no step of this host"},
		{map[string]host.Step{"history": in("history")}, "history.After[0]", "itself"},
		{map[string]host.Step{"history": in("push", "push"), "push": in()}, "history.After[1]", "twice"},
		{map[string]host.Step{"history": in("push"), "push": in("search"), "search": in("history")}, "history.After[0]",
			"circle"},
		{map[string]host.Step{"notify": in("history"), "history": in()}, "notify.After[0]", "comes first"},
	} {
		c := host.Config{File: hosttest.WriteConfig(t, "/nowhere", t.TempDir()), RunDir: hosttest.RunDir(t), Steps: tc.steps}
		var wrong *shared.FieldError
		if _, err := host.Open(within(t), c); !errors.As(err, &wrong) || wrong.Field != "host.Config.Steps."+tc.field ||
			!strings.Contains(wrong.Problem, tc.reason) {
			t.Errorf("%s, %s: got %v", tc.field, tc.reason, err)
		}
	}
}

func TestStep_After(t *testing.T) {
	for name, killEvery := range map[string]int64{
		"the first step fails three times": 0, "and the plugin is killed again and again": 7,
	} {
		t.Run(name, func(t *testing.T) {
			const messages = 20
			var h *host.Host
			var runs, kills atomic.Int64
			run := func() {
				if n := runs.Add(1); killEvery > 0 && n%killEvery == 0 {
					if pid := h.State().PID; pid > 0 && syscall.Kill(pid, syscall.SIGKILL) == nil {
						kills.Add(1)
					}
				}
			}
			h = hosttest.Open(t, host.Config{Steps: map[string]host.Step{
				shared.StepNotify: {Run: done},
				shared.StepAttachments: {Run: func(_ context.Context, d shared.Delivery) (shared.Outcome, error) {
					run() // before its outcome is on disk
					if d.Attempt <= 3 {
						return "", errors.New("the file server is away")
					}
					return shared.OutcomeDone, nil
				}},
				shared.StepHistory: {
					After: []string{shared.StepAttachments},
					Run: func(ctx context.Context, d shared.Delivery) (shared.Outcome, error) {
						run() // between both steps
						entries, err := shared.ReadLedger(ctx, h, d.Tenant, d.RecallID)
						if err != nil {
							return "", err
						}
						for _, s := range entries[0].Steps {
							if s.Step == shared.StepAttachments && (s.Outcome != shared.OutcomeDone || s.Attempts < 4) {
								t.Errorf("%s began when attachments was %+v", d.Message.ID, s)
							}
						}
						return shared.OutcomeDone, nil
					},
				},
			}})
			for i := range messages {
				indexFile(t, h, fmt.Sprint("m", i))
			}
			var recalls []string
			for i := range messages {
				recalls = append(recalls, takeBack(t, h, fmt.Sprint("m", i)).RecallID)
			}
			for _, recallID := range recalls {
				if err := h.Wait(within(t), "acme", recallID); err != nil {
					t.Fatal(err)
				}
			}
			if runs.Load() < messages*5 || (killEvery > 0) != (kills.Load() > 0) {
				t.Errorf("%d runs, %d kills", runs.Load(), kills.Load())
			}
		})
	}
}

func TestStep_AfterADeferredStep(t *testing.T) {
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), t.TempDir())
	keys := make(chan string, 10)
	ran := make(chan struct{}, 10)
	deferred := host.Step{Run: func(_ context.Context, d shared.Delivery) (shared.Outcome, error) {
		keys <- d.Key()
		return shared.OutcomeDeferred, nil
	}}
	waits := host.Step{After: []string{shared.StepAttachments},
		Run: func(context.Context, shared.Delivery) (shared.Outcome, error) {
			ran <- struct{}{}
			return shared.OutcomeDone, nil
		}}
	both := map[string]host.Step{
		shared.StepNotify: {Run: done}, shared.StepAttachments: deferred, shared.StepHistory: waits,
	}
	h := hosttest.Open(t, host.Config{File: file, Steps: both})
	indexFile(t, h, "m")
	recallID := takeBack(t, h, "m").RecallID
	key := <-keys
	hosttest.Kill(t, h)
	var wrong *shared.FieldError
	err := h.Settle(within(t), key, shared.StepHistory, shared.OutcomeDone, nil)
	if !errors.As(err, &wrong) || wrong.Field != "step" || !strings.Contains(wrong.Problem, "waits for attachments") {
		t.Errorf("settling the step that waits: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	t.Run("a host without either step counts both", func(t *testing.T) {
		out := &logs{}
		h := hosttest.Open(t, host.Config{File: file, Steps: map[string]host.Step{shared.StepNotify: {Run: done}},
			Logger: hclog.New(&hclog.LoggerOptions{Output: out})})
		for _, step := range []string{shared.StepAttachments, shared.StepHistory} {
			eventually(t, "a warning about "+step, func() bool {
				for line := range strings.Lines(out.String()) {
					if strings.Contains(line, "stays open") && strings.Contains(line, "step="+step) {
						return strings.Contains(line, "recalls=1")
					}
				}
				return false
			})
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	})
	for len(keys) > 0 {
		<-keys
	}
	h = hosttest.Open(t, host.Config{File: file, Steps: both})
	<-keys // attachments is delivered again, and history was not
	if len(ran) > 0 {
		t.Error("history ran before attachments was settled")
	}
	if err := h.Settle(within(t), key, shared.StepAttachments, shared.OutcomeDone, nil); err != nil {
		t.Fatal(err)
	}
	if err := h.Wait(within(t), "acme", recallID); err != nil || len(ran) != 1 {
		t.Errorf("history ran %d times, %v", len(ran), err)
	}
}
