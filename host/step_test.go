package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

func done(context.Context, shared.Delivery) (shared.Outcome, error) { return shared.OutcomeDone, nil }

func TestOpen_StepsThatAreWrong(t *testing.T) {
	for field, step := range map[string]host.Step{
		"host.Config.Steps.history.Run":         {},
		"host.Config.Steps.history.Timeout":     {Run: done, Timeout: -1},
		"host.Config.Steps.history.Concurrency": {Run: done, Concurrency: shared.MaxDeliveries + 1},
	} {
		c := host.Config{File: hosttest.WriteConfig(t, "/nowhere", t.TempDir()), RunDir: hosttest.RunDir(t),
			Steps: map[string]host.Step{shared.StepHistory: step}}
		var wrong *shared.FieldError
		if _, err := host.Open(within(t), c); !errors.As(err, &wrong) || wrong.Field != field {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

func TestStep_Verify(t *testing.T) {
	var runs, proofs atomic.Int64
	h := hosttest.Open(t, host.Config{Steps: map[string]host.Step{
		shared.StepNotify: {Run: done},
		shared.StepHistory: {
			Run: func(context.Context, shared.Delivery) (shared.Outcome, error) {
				runs.Add(1)
				return shared.OutcomeDone, nil
			},
			Verify: func(_ context.Context, d shared.Delivery) error {
				if proofs.Add(1); d.Attempt < 3 {
					return errors.New("it is still there")
				}
				return nil
			},
		},
		shared.StepPush: {
			Run: func(context.Context, shared.Delivery) (shared.Outcome, error) { return shared.OutcomeNothingToDo, nil },
			Verify: func(context.Context, shared.Delivery) error {
				return errors.New("there was nothing to do, so there is nothing to prove")
			},
		},
	}})
	index(t, h, "m")
	recallID := takeBack(t, h, "m").RecallID
	if err := h.Wait(within(t), "acme", recallID); err != nil {
		t.Fatal(err)
	}
	if s := stepOf(t, h, recallID, shared.StepHistory); s.Outcome != shared.OutcomeDone || s.Attempts != 3 ||
		runs.Load() != 3 || proofs.Load() != 3 || !strings.Contains(s.Error, "Verify failed: it is still there") {
		t.Errorf("%+v after %d runs and %d proofs", s, runs.Load(), proofs.Load())
	}
	if s := stepOf(t, h, recallID, shared.StepPush); s.Outcome != shared.OutcomeNothingToDo {
		t.Errorf("got %+v", s)
	}
}

func TestStep_TimeoutAndConcurrency(t *testing.T) {
	var running, most atomic.Int64
	h := hosttest.Open(t, host.Config{Steps: map[string]host.Step{
		shared.StepNotify: {Run: done},
		shared.StepHistory: {Concurrency: 3, Run: func(context.Context, shared.Delivery) (shared.Outcome, error) {
			defer running.Add(-1)
			for n := running.Add(1); ; {
				if before := most.Load(); n <= before || most.CompareAndSwap(before, n) {
					return shared.OutcomeDone, nil
				}
			}
		}},
		shared.StepPush: {Timeout: 50 * time.Millisecond,
			Run: func(ctx context.Context, d shared.Delivery) (shared.Outcome, error) {
				if d.Attempt == 1 {
					<-ctx.Done()
					return "", ctx.Err()
				}
				return shared.OutcomeDone, nil
			}},
	}})
	recallMany(t, h, "m", "r", 200)
	if err := h.Wait(within(t), "acme", "r"); err != nil {
		t.Fatal(err)
	}
	if n := most.Load(); n > 3 {
		t.Errorf("%d ran at once", n)
	}
}

func TestStep_Deferred(t *testing.T) {
	dir := hosttest.RunDir(t)
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), dir)
	var mu sync.Mutex
	keys := map[string]string{} // by message
	runs := map[string]int{}
	open := func() *host.Host {
		h, err := host.Open(within(t), host.Config{File: file, RunDir: dir, Steps: map[string]host.Step{
			shared.StepNotify: {Run: done},
			shared.StepHistory: {Run: func(_ context.Context, d shared.Delivery) (shared.Outcome, error) {
				mu.Lock()
				defer mu.Unlock()
				keys[d.Message.ID] = d.Key()
				runs[d.Message.ID]++
				if d.Attempt != 1 {
					return "", fmt.Errorf("attempt %d: a deferred step was counted", d.Attempt)
				}
				return shared.OutcomeDeferred, nil
			}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	deferred := func(n, times int) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			count := 0
			for _, r := range runs {
				if r >= times {
					count++
				}
			}
			return count == n
		}
	}
	h := open()
	const all = 2 * shared.MaxDeliveries // more than are in flight at once: a deferred one is not
	recallMany(t, h, "m", "r", all)
	eventually(t, "every step is deferred", deferred(all, 1))
	if err := h.Settle(within(t), keys["m0"], shared.StepHistory, shared.OutcomeDone, nil); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}

	h = open()
	defer h.Close()
	eventually(t, "the others are delivered again", deferred(all-1, 2))
	if n := runs["m0"]; n != 1 {
		t.Errorf("the settled one ran %d times", n)
	}
	if err := syscall.Kill(h.State().PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "and again after a crash of the plugin", deferred(all-1, 3))
	waited := make(chan error, 1)
	go func() { waited <- h.Wait(within(t), "acme", "r") }()
	for i := 1; i < all; i++ {
		outcome := shared.OutcomeNothingToDo
		if err := h.Settle(within(t), keys[fmt.Sprint("m", i)], shared.StepHistory, outcome, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-waited; err != nil {
		t.Error(err)
	}
	entries, err := shared.ReadLedger(within(t), h, "acme", "r")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		for _, s := range e.Steps {
			if s.Step == shared.StepHistory && s.Attempts != 1 {
				t.Errorf("%s: %+v", e.Event.Message.ID, s)
			}
		}
	}
}

// A new plugin delivers a step again while its attempt is under way. What that attempt defers may fail later.
func TestStep_DeferredAfterAnotherPluginDeliveredIt(t *testing.T) {
	began, deferring := make(chan shared.Delivery, 1), make(chan struct{})
	h := hosttest.Open(t, host.Config{Steps: map[string]host.Step{
		shared.StepNotify: {Run: func(_ context.Context, d shared.Delivery) (shared.Outcome, error) {
			if d.Attempt > 1 {
				return shared.OutcomeDone, nil
			}
			began <- d
			<-deferring
			return shared.OutcomeDeferred, nil
		}},
		shared.StepPush: {Run: done},
	}})
	index(t, h, "m")
	recallID := takeBack(t, h, "m").RecallID
	d := <-began
	pid := h.State().PID
	hosttest.Kill(t, h)
	eventually(t, "another plugin runs", func() bool {
		s := h.State()
		return s.Phase == host.PhaseRunning && s.PID != pid
	})
	eventually(t, "it has delivered the step again", func() bool {
		metrics, err := h.Metrics(within(t))
		for _, m := range metrics {
			if m.Name == "recall_step_in_flight" && m.Labels["step"] == shared.StepNotify && m.Value == 1 {
				return err == nil
			}
		}
		return false
	})
	close(deferring)
	eventually(t, "it is deferred", func() bool {
		metrics, err := h.Metrics(within(t))
		for _, m := range metrics {
			if m.Name == "recall_step_in_flight" && m.Labels["step"] == shared.StepNotify {
				return err == nil && m.Value == 0
			}
		}
		return false
	})
	if err := h.Settle(within(t), d.Key(), d.Step, shared.OutcomeFailed, errors.New("not there")); err != nil {
		t.Fatal(err)
	}
	if err := h.Wait(within(t), "acme", recallID); err != nil {
		t.Error(err)
	}
}

func TestHost_SettleRefuses(t *testing.T) {
	h := hosttest.Open(t, host.Config{Steps: map[string]host.Step{shared.StepNotify: {Run: done}}})
	index(t, h, "m")
	index(t, h, "live")
	takeBack(t, h, "m")
	e := shared.Event{Tenant: "acme", RecallID: "none", Message: shared.Message{ID: "m"}}
	for name, tc := range map[string]struct {
		key, step string
		outcome   shared.Outcome
		cause     error
		field     string
	}{
		"no key":                {"?", shared.StepHistory, shared.OutcomeDone, nil, "key"},
		"another recall":        {e.Key(), shared.StepHistory, shared.OutcomeDone, nil, "key"},
		"deferred":              {e.Key(), shared.StepHistory, shared.OutcomeDeferred, nil, "outcome"},
		"an unknown result":     {e.Key(), shared.StepHistory, "perhaps", nil, "outcome"},
		"an error of a success": {e.Key(), shared.StepHistory, shared.OutcomeDone, errors.New("no"), "cause"},
	} {
		var wrong *shared.FieldError
		err := h.Settle(within(t), tc.key, tc.step, tc.outcome, tc.cause)
		if !errors.As(err, &wrong) || wrong.Field != tc.field {
			t.Errorf("%s: got %v", name, err)
		}
	}
	var wrong *shared.FieldError
	if err := h.Wait(within(t), "acme", "none"); !errors.As(err, &wrong) || wrong.Field != "recall_id" {
		t.Errorf("wait for no recall: %v", err)
	}
}

func TestHost_Retry(t *testing.T) {
	var fails atomic.Bool
	fails.Store(true)
	var failed, pause atomic.Int64
	h := hosttest.Open(t, host.Config{Steps: map[string]host.Step{
		shared.StepNotify: {Run: done},
		shared.StepHistory: {Run: func(context.Context, shared.Delivery) (shared.Outcome, error) {
			now := time.Now().UnixNano()
			if fails.Load() {
				failed.Store(now)
				return "", errors.New("not yet")
			}
			pause.Store(now - failed.Load())
			return shared.OutcomeDone, nil
		}},
	}})
	index(t, h, "m")
	recallID := takeBack(t, h, "m").RecallID
	eventually(t, "it failed for seconds", func() bool { // the next delay is 6.4 s
		return stepOf(t, h, recallID, shared.StepHistory).Attempts >= 6
	})
	fails.Store(false)
	if err := h.Retry(within(t), shared.StepHistory); err != nil {
		t.Fatal(err)
	}
	if err := h.Wait(within(t), "acme", recallID); err != nil {
		t.Fatal(err)
	}
	if d := time.Duration(pause.Load()); d > 5*time.Second {
		t.Errorf("it was carried out %s after it failed", d)
	}
	var wrong *shared.FieldError
	if err := h.Retry(within(t), "wipe"); !errors.As(err, &wrong) || wrong.Field != "steps[0]" {
		t.Errorf("a step that it does not have: %v", err)
	}
	if err := h.Retry(within(t)); err != nil {
		t.Error(err)
	}
}

func TestOpen_ConfigInGo(t *testing.T) {
	dir := t.TempDir()
	c := host.Config{
		RunDir: hosttest.RunDir(t),
		Plugin: host.PluginConfig{Binary: hosttest.BuildPlugin(t)},
		Index:  host.IndexConfig{Path: dir + "/index"},
	}
	h, err := host.Open(within(t), c)
	if err != nil {
		t.Fatal(err)
	}
	index(t, h, "m")
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h, err = host.Open(within(t), c)
	if err != nil {
		t.Fatal(err)
	}
	takeBack(t, h, "m")
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*host.Config){
		"host.Config.File":          func(c *host.Config) { c.File = "plugin.hcl" },
		"host.Config.Plugin.Binary": func(c *host.Config) { c.Plugin.Binary = "" },
		"host.Config.Index.Path":    func(c *host.Config) { c.Index.Path = "" },
		// what plugin.hcl could not say, or would say of another path
		"host.Config.Index.Path: not UTF-8":          func(c *host.Config) { c.Index.Path += "\xff" },
		"host.Config.Index.Path: not in NFC":         func(c *host.Config) { c.Index.Path += "cafe\u0301" },
		"host.Config.Index.Path: a NUL byte":         func(c *host.Config) { c.Index.Path += "\x00" },
		"host.Config.Index.Path: the home folder":    func(c *host.Config) { c.Index.Path = "~/index" },
		"host.Config.Plugin.Binary: not UTF-8":       func(c *host.Config) { c.Plugin.Binary += "\xff" },
		"host.Config.Rules.Paths[1]: not UTF-8":      func(c *host.Config) { c.Rules.Paths = []string{"a", "\xff"} },
		"host.Config.Plugin.SHA256":                  func(c *host.Config) { c.Plugin.SHA256 = "abc" },
		"host.Config.Plugin.StartTimeout: negative":  func(c *host.Config) { c.Plugin.StartTimeout = -1 },
		"host.Config.Plugin.StartTimeout: too large": func(c *host.Config) { c.Plugin.StartTimeout = 11 * time.Minute },
		"host.Config.Cluster.Node":                   func(c *host.Config) { c.Cluster.Replicas = 3 },
	} {
		bad := c
		change(&bad)
		field, _, _ = strings.Cut(field, ": ")
		var wrong *shared.FieldError
		if _, err := host.Open(within(t), bad); !errors.As(err, &wrong) || wrong.Field != field {
			t.Errorf("%s: got %v", field, err)
		}
	}
	t.Run("in a folder that plugin.hcl cannot name", func(t *testing.T) {
		folder := filepath.Join(dir, "\xff")
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Chdir(folder)
		bad := c
		bad.Index.Path = "index"
		var wrong *shared.FieldError
		if _, err := host.Open(within(t), bad); !errors.As(err, &wrong) || wrong.Field != "host.Config.Index.Path" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("with a file of the cluster that is not there", func(t *testing.T) {
		bad := c
		bad.Cluster = host.ClusterConfig{Node: "n0", URLs: []string{"tls://127.0.0.1:1"}, SystemCredentials: "none.creds"}
		var wrong *shared.ConfigError
		if _, err := host.Open(within(t), bad); !errors.As(err, &wrong) || len(wrong.Diagnostics) != 1 ||
			!strings.HasPrefix(wrong.Diagnostics[0].Summary, "cluster.system_credentials: ") {
			t.Errorf("got %v", err)
		}
	})
	if _, err := host.Open(within(t), host.Config{}); err == nil || !strings.Contains(err.Error(), "host.Config.File") {
		t.Errorf("nothing set: %v", err)
	}
}

func TestOpen_Background(t *testing.T) {
	dir := hosttest.RunDir(t)
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), dir)
	holder, err := host.Open(within(t), host.Config{File: file, RunDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	index(t, holder, "m")
	h, err := host.Open(within(t), host.Config{File: file, RunDir: hosttest.RunDir(t), Background: true})
	if err != nil {
		t.Fatal(err)
	}
	if s := h.State(); s.Phase != host.PhaseRestarting || s.Binary == "" {
		t.Errorf("before it runs: %+v", s)
	}
	answer := make(chan error, 1)
	go func() {
		_, err := h.Recall(within(t), recallOf("m"))
		answer <- err
	}()
	if err := holder.Close(); err != nil { // then the index is free
		t.Fatal(err)
	}
	if err := <-answer; err != nil {
		t.Errorf("the call that was held: %v", err)
	}
	if s := h.State(); s.Phase != host.PhaseRunning || s.Restarts != 0 {
		t.Errorf("then: %+v", s)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	t.Run("closed before the plugin runs", func(t *testing.T) {
		h, err := host.Open(within(t), host.Config{File: file, RunDir: dir, Background: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("upgraded from a plugin that never started", func(t *testing.T) {
		bad := hosttest.BuildFaulty(t, "panic-activate")
		h := hosttest.Open(t, host.Config{File: hosttest.WriteConfig(t, bad, t.TempDir()), Background: true})
		if _, err := h.Upgrade(within(t), host.Binary{Path: hosttest.BuildPlugin(t)}); err != nil {
			t.Fatal(err)
		}
		index(t, h, "m")
		hosttest.Kill(t, h)
		eventually(t, "the crash is counted", func() bool { return h.State().Restarts == 1 })
	})
	t.Run("a binary that is missing", func(t *testing.T) {
		file := hosttest.WriteConfig(t, "/nowhere", t.TempDir())
		if _, err := host.Open(within(t), host.Config{File: file, RunDir: hosttest.RunDir(t), Background: true}); err == nil {
			t.Error("it was opened")
		}
	})
}
