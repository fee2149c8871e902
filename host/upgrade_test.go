package host_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

// callers index and recall throughout a test, with ids of their own, and fail it if a call is lost or applied twice.
type callers struct {
	h    *host.Host
	stop chan struct{}
	done sync.WaitGroup

	mu       sync.Mutex
	recalls  []string
	notified map[string]int // by recall id
}

func newCallers() *callers {
	return &callers{stop: make(chan struct{}), notified: map[string]int{}}
}

func (c *callers) notify(_ context.Context, e shared.Delivery) (shared.Outcome, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notified[e.RecallID]++
	return shared.OutcomeDone, nil
}

func (c *callers) start(t *testing.T, h *host.Host, n int) {
	c.h = h
	for i := range n {
		c.done.Go(func() {
			for k := 0; ; k++ {
				select {
				case <-c.stop:
					return
				default:
				}
				id := fmt.Sprintf("caller%d-%d", i, k)
				if _, err := h.Index(within(t), []shared.Message{message(id)}); err != nil {
					t.Errorf("index %s: %v", id, err)
					return
				}
				results, err := h.Recall(within(t), recallOf(id))
				if err != nil || results[0].Status != shared.StatusRecalled {
					t.Errorf("recall %s: %+v, %v", id, results, err)
					return
				}
				c.mu.Lock()
				c.recalls = append(c.recalls, results[0].RecallID)
				c.mu.Unlock()
			}
		})
	}
}

// check ends the callers and looks for each of their calls: in the index once, its event received.
func (c *callers) check(t *testing.T) {
	t.Helper()
	close(c.stop)
	c.done.Wait()
	seen := map[string]bool{}
	for after, more := "", true; more; {
		page, err := c.h.Since(within(t), shared.SinceRequest{
			Tenant: "acme", Conversations: []shared.Conversation{{Type: shared.ConversationGroup, ID: "g"}}, After: after})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			if seen[e.Message.ID] {
				t.Errorf("%s was recalled twice", e.Message.ID)
			}
			seen[e.Message.ID] = true
			settled(t, c.h, e.RecallID)
		}
		after, more = page.Next, page.More
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range c.recalls {
		if c.notified[id] == 0 {
			t.Errorf("the event of %s was lost", id)
		}
	}
	if len(c.recalls) == 0 || len(seen) < len(c.recalls) {
		t.Errorf("%d recalls were acknowledged, %d are in the index", len(c.recalls), len(seen))
	}
}

// resources are what a host may leave behind: descriptors and child processes of this process.
func resources(t *testing.T) (descriptors, processes int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds), len(children(t))
}

// children are the child processes of this process, those that are not reaped yet included.
func children(t *testing.T) (pids []int) {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		stat, err := os.ReadFile(p)
		if err != nil {
			continue // it ended meanwhile
		}
		rest := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
		var state string
		var parent int
		if _, err := fmt.Sscan(rest, &state, &parent); err == nil && parent == os.Getpid() {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(p)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// accounted fails the test if, at its end, more is open or running than at its start. Call it first.
func accounted(t *testing.T) {
	t.Helper()
	descriptors, processes := resources(t)
	t.Cleanup(func() {
		var d, c int
		for range 100 {
			if d, c = resources(t); d <= descriptors && c <= processes {
				return
			}
			time.Sleep(10 * time.Millisecond) // a connection that ends closes its descriptor from a goroutine of its own
		}
		t.Errorf("%d descriptors and %d child processes, %d and %d at the start", d, c, descriptors, processes)
	})
}

func TestUpgrade_UnfitBinary(t *testing.T) {
	script := func(text string) host.Binary {
		path := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		return host.Binary{Path: path}
	}
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	faulty := func(fault string) host.Binary { return host.Binary{Path: hosttest.BuildFaulty(t, fault)} }
	accounted(t)
	dir := t.TempDir()
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), dir)
	replaceIn(t, file, "plugin {", "plugin {\n  start_timeout = \"2s\"")
	calls := newCallers()
	runDir := hosttest.RunDir(t)
	h := hosttest.Open(t, host.Config{File: file, RunDir: runDir,
		Steps: map[string]host.Step{shared.StepNotify: {Run: calls.notify}}})
	calls.start(t, h, 4)
	for _, tc := range []struct {
		name   string
		binary host.Binary
		words  string
		may    bool // the old version may come back as a new process: the new one failed when it was its turn
	}{
		{"missing", host.Binary{Path: "/nowhere/plugin"}, "no such file", false},
		{"not executable", host.Binary{Path: plain}, "chmod +x", false},
		{"wrong checksum", host.Binary{Path: hosttest.BuildPlugin(t), SHA256: strings.Repeat("ab", 32)}, "another SHA-256",
			false},
		{"not a plugin", script("#!/bin/sh\necho hello; sleep 600"), "Unrecognized remote plugin message: hello", false},
		{"exits at once", script("#!/bin/sh\nexit 3"), "start plugin", false},
		{"hangs before the handshake", script("#!/bin/sh\nsleep 600"), "no answer within 2s", false},
		{"another major", faulty("next-major"), "Plugin version: 2, Client versions: [1]", false},
		{"panics in Prepare", faulty("panic-prepare"), "prepare plugin", false},
		{"hangs in Prepare", faulty("hang-prepare"), "prepare plugin", false},
		{"newer index format", faulty("newer-format"), "has index format 4, the index has format 3", false},
		{"panics in Activate", faulty("panic-activate"), "activate plugin", true},
		{"panics once it has the index", faulty("panic-activated"), "activate plugin", true},
		{"panics in the first call", faulty("panic-first-call"), "first call of plugin", true},
	} {
		before := h.State()
		report, err := h.Upgrade(within(t), tc.binary)
		if err == nil || !strings.Contains(err.Error(), tc.words) {
			t.Errorf("%s: got %v, want %q; report %+v", tc.name, err, tc.words, report)
		}
		if failed, ok := errors.AsType[*shared.UpgradeError](err); !ok || failed.Step == "" {
			t.Errorf("%s: %v does not name its step", tc.name, err)
		}
		index(t, h, "after "+tc.name) // waits until the old version is back
		after := h.State()
		if after.Phase != host.PhaseRunning || after.Version != before.Version || after.SHA256 != before.SHA256 ||
			after.Upgrades != 0 {
			t.Errorf("%s: state %+v", tc.name, after)
		}
		if after.PID != before.PID && !tc.may {
			t.Errorf("%s: process %d before and %d after", tc.name, before.PID, after.PID)
		}
	}
	// What the files say is wrong now: the old plugin keeps what it had read.
	replaceIn(t, file, "index {", "indx {")
	if _, err := h.Upgrade(within(t), host.Binary{Path: hosttest.BuildPlugin(t)}); err == nil ||
		!strings.Contains(err.Error(), "indx") {
		t.Errorf("a configuration that is wrong: %v", err)
	}
	calls.check(t)
	if sockets, _ := filepath.Glob(filepath.Join(runDir, "plugin-dir*")); len(sockets) != 1 {
		t.Errorf("socket folders %v; one is in use", sockets)
	}
	h.Close()
}

func TestUpgrade_CancelledAtEachStep(t *testing.T) {
	accounted(t)
	var mu sync.Mutex
	var cancelAt string
	var cancel context.CancelFunc
	calls := newCallers()
	h := hosttest.Open(t, host.Config{
		Steps: map[string]host.Step{shared.StepNotify: {Run: calls.notify}},
		OnState: func(s host.State) {
			mu.Lock()
			defer mu.Unlock()
			if s.Step != "" && s.Step == cancelAt {
				cancel()
			}
		},
	})
	calls.start(t, h, 4)
	next := host.Binary{Path: hosttest.BuildFaulty(t, "newer-minor")}
	before := h.State()
	for _, step := range []string{host.StepVerify, host.StepPrepare, host.StepFlush, host.StepDrain, host.StepRelease,
		host.StepActivate} {
		ctx, stop := context.WithCancel(t.Context())
		mu.Lock()
		cancelAt, cancel = step, stop
		mu.Unlock()
		if _, err := h.Upgrade(ctx, next); !errors.Is(err, context.Canceled) {
			t.Errorf("canceled at %s: %v", step, err)
		}
		stop()
		index(t, h, "after "+step)
		if st := h.State(); st.SHA256 != before.SHA256 || st.Upgrades != 0 || st.Phase != host.PhaseRunning || st.Step != "" {
			t.Errorf("canceled at %s: state %+v", step, st)
		}
	}
	mu.Lock()
	cancelAt = ""
	mu.Unlock()
	if _, err := h.Upgrade(within(t), next); err != nil {
		t.Errorf("an upgrade after all that: %v", err)
	}
	calls.check(t)
	h.Close()
}

func TestUpgrade_TwoAtOnce(t *testing.T) {
	var mu sync.Mutex
	var steps []string
	preparing := make(chan struct{}, 10)
	h := hosttest.Open(t, host.Config{OnState: func(s host.State) {
		mu.Lock()
		defer mu.Unlock()
		if s.Step != "" && (len(steps) == 0 || steps[len(steps)-1] != s.Step) {
			steps = append(steps, s.Step)
			if s.Step == host.StepPrepare {
				preparing <- struct{}{}
			}
		}
	}})
	first, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	hangs := host.Binary{Path: hosttest.BuildFaulty(t, "hang-prepare")}
	go func() {
		_, err := h.Upgrade(first, hangs)
		ended <- err
	}()
	<-preparing
	go func() {
		_, err := h.Upgrade(within(t), host.Binary{Path: hosttest.BuildPlugin(t)})
		ended <- err
	}()
	select {
	case err := <-ended:
		t.Errorf("one ended while the first is under way: %v", err)
	case <-time.After(200 * time.Millisecond): // time enough for the second to begin, if nothing held it
	}
	third, stop := context.WithCancel(t.Context())
	stop()
	_, err := h.Upgrade(third, host.Binary{Path: hosttest.BuildPlugin(t)})
	if failed, ok := errors.AsType[*shared.UpgradeError](err); !ok || failed.Step != host.StepVerify ||
		!errors.Is(err, context.Canceled) {
		t.Errorf("one whose context ended while it waited: %v", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the first ended with %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the second ended with %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(steps, " "); got != "verify prepare verify prepare flush drain release activate" {
		t.Errorf("steps %s", got)
	}
}

func TestUpgrade_RepeatedFailures(t *testing.T) {
	h := hosttest.Open(t, host.Config{})
	bad := host.Binary{Path: hosttest.BuildFaulty(t, "panic-activate")}
	for i := range 10 {
		if _, err := h.Upgrade(within(t), bad); err == nil {
			t.Fatal("a plugin that panics was taken")
		}
		index(t, h, fmt.Sprint("m", i))
	}
	if st := h.State(); st.Phase != host.PhaseRunning || st.Restarts != 0 || st.Upgrades != 0 {
		t.Errorf("state %+v", st)
	}
}

func TestUpgrade_NewPluginHangsInActivate(t *testing.T) {
	h := hosttest.Open(t, host.Config{})
	if _, err := h.Upgrade(within(t), host.Binary{Path: hosttest.BuildFaulty(t, "hang-activate")}); err == nil {
		t.Fatal("a plugin that hangs was taken")
	}
	index(t, h, "m1")
	if st := h.State(); st.Phase != host.PhaseRunning || st.Upgrades != 0 {
		t.Errorf("state %+v", st)
	}
}

func TestRunDir_Removed(t *testing.T) {
	for name, config := range map[string]host.Config{
		"plugin.hcl":          {File: hosttest.WriteConfig(t, hosttest.BuildPlugin(t), t.TempDir())},
		"configuration in Go": {},
	} {
		t.Run(name, func(t *testing.T) {
			config.RunDir = hosttest.RunDir(t)
			h := hosttest.Open(t, config)
			index(t, h, "m1")
			if err := os.RemoveAll(config.RunDir); err != nil {
				t.Fatal(err)
			}
			hosttest.Kill(t, h)
			takeBack(t, h, "m1")
			if err := os.RemoveAll(config.RunDir); err != nil {
				t.Fatal(err)
			}
			if _, err := h.Upgrade(within(t), host.Binary{Path: hosttest.BuildPlugin(t)}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOpen_SecondHostOfAFile(t *testing.T) {
	dir := t.TempDir()
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), dir)
	runDir := hosttest.RunDir(t)
	first := hosttest.Open(t, host.Config{File: file, RunDir: runDir})
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	var log strings.Builder
	waits := host.Config{File: file, RunDir: runDir, Logger: hclog.New(&hclog.LoggerOptions{Output: &log})}
	if _, err := host.Open(short, waits); err == nil || !strings.Contains(err.Error(), "another host") {
		t.Errorf("two hosts: %v", err)
	}
	if strings.Count(log.String(), "waiting for another host") != 1 {
		t.Errorf("it waited and logged %q", log.String())
	}
	index(t, first, "m1")
	hosttest.Kill(t, first)
	takeBack(t, first, "m1") // its copy is still there
	opened := make(chan error, 1)
	go func() { // as in a rolling restart
		second, err := host.Open(within(t), host.Config{File: file, RunDir: runDir})
		if err == nil {
			_, err = second.Index(within(t), []shared.Message{message("m2")})
			second.Close()
		}
		opened <- err
	}()
	if _, err := first.Upgrade(within(t), host.Binary{Path: hosttest.BuildPlugin(t)}); err != nil {
		t.Errorf("an upgrade while the next host waits: %v", err)
	}
	first.Close()
	if err := <-opened; err != nil {
		t.Errorf("the next host: %v", err)
	}
}

func TestUpgrade_OldPluginDeadOrStuck(t *testing.T) {
	accounted(t)
	for name, fault := range map[string]func(testing.TB, *host.Host){"dead": hosttest.Kill, "stuck": hosttest.Hang} {
		t.Run(name, func(t *testing.T) {
			h := hosttest.Open(t, host.Config{})
			index(t, h, "m1")
			before := h.State().PID
			fault(t, h)
			if _, err := h.Upgrade(within(t), host.Binary{Path: hosttest.BuildPlugin(t)}); err != nil {
				t.Fatal(err)
			}
			takeBack(t, h, "m1")
			gone(t, before, 5*time.Second)
			h.Close()
		})
	}
}

func TestUpgrade_OldPluginDiesAtEachStep(t *testing.T) {
	accounted(t)
	var mu sync.Mutex
	var killAt string
	var pid int
	calls := newCallers()
	h := hosttest.Open(t, host.Config{
		Steps: map[string]host.Step{shared.StepNotify: {Run: calls.notify}},
		OnState: func(s host.State) {
			mu.Lock()
			defer mu.Unlock()
			if s.Step != "" && s.Step == killAt {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		},
	})
	calls.start(t, h, 4)
	for _, step := range []string{host.StepVerify, host.StepPrepare, host.StepFlush, host.StepDrain, host.StepRelease} {
		mu.Lock()
		killAt, pid = step, h.State().PID
		mu.Unlock()
		if _, err := h.Upgrade(within(t), host.Binary{Path: hosttest.BuildPlugin(t)}); err != nil {
			t.Errorf("killed at %s: %v", step, err)
		}
	}
	calls.check(t)
	h.Close()
}

func TestUpgrade_NewPluginDiesBeforeTheSwap(t *testing.T) {
	accounted(t)
	var old atomic.Int64 // process
	h := hosttest.Open(t, host.Config{OnState: func(s host.State) {
		if s.Step != host.StepFlush {
			return
		}
		for _, pid := range children(t) {
			if pid != int(old.Load()) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				for syscall.Kill(pid, 0) == nil {
					time.Sleep(time.Millisecond) // until the host has reaped it
				}
			}
		}
	}})
	old.Store(int64(h.State().PID))
	if _, err := h.Upgrade(within(t), host.Binary{Path: hosttest.BuildPlugin(t)}); err == nil {
		t.Error("a process that is dead was taken")
	}
	index(t, h, "m1")
	if st := h.State(); st.PID != int(old.Load()) {
		t.Errorf("it was process %d; state %+v", old.Load(), st)
	}
	h.Close()
}

func TestUpgrade_OldPluginDiesDuringPrepare(t *testing.T) {
	preparing := make(chan struct{}, 1)
	h := hosttest.Open(t, host.Config{OnState: func(s host.State) {
		if s.Step == host.StepPrepare {
			select {
			case preparing <- struct{}{}:
			default:
			}
		}
	}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := h.Upgrade(ctx, host.Binary{Path: hosttest.BuildFaulty(t, "hang-prepare")})
		ended <- err
	}()
	<-preparing
	hosttest.Kill(t, h)
	index(t, h, "m1") // while the upgrade still waits
	select {
	case err := <-ended:
		t.Errorf("the upgrade has ended already: %v", err)
	default:
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the upgrade ended with %v", err)
	}
	if st := h.State(); st.Phase != host.PhaseRunning || st.Restarts != 1 || st.Step != "" {
		t.Errorf("state %+v", st)
	}
}

func TestUpgrade_EndedByClose(t *testing.T) {
	preparing := make(chan struct{}, 1)
	h := hosttest.Open(t, host.Config{OnState: func(s host.State) {
		if s.Step == host.StepPrepare {
			preparing <- struct{}{}
		}
	}})
	ended := make(chan error, 1)
	go func() {
		_, err := h.Upgrade(within(t), host.Binary{Path: hosttest.BuildFaulty(t, "hang-prepare")})
		ended <- err
	}()
	<-preparing
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, shared.ErrUnavailable) || !strings.Contains(err.Error(), "the host is closed") {
		t.Errorf("got %v", err)
	}
	_, err := h.Upgrade(within(t), host.Binary{Path: hosttest.BuildPlugin(t)})
	if _, ok := errors.AsType[*shared.UpgradeError](err); !ok || !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("an upgrade of a closed host: %v", err)
	}
}

func TestUpgrade_ManyUnderLoad(t *testing.T) {
	accounted(t)
	calls := newCallers()
	h := hosttest.Open(t, host.Config{Steps: map[string]host.Step{shared.StepNotify: {Run: calls.notify}}})
	calls.start(t, h, 16)
	binaries := []string{hosttest.BuildFaulty(t, "newer-minor"), hosttest.BuildPlugin(t)} // up and down again
	const upgrades = 8                                                                    // bench swap does hundreds
	for i := range upgrades {
		if _, err := h.Upgrade(within(t), host.Binary{Path: binaries[i%2]}); err != nil {
			t.Fatal(err)
		}
	}
	if st := h.State(); st.Upgrades != upgrades {
		t.Errorf("state %+v", st)
	}
	calls.check(t)
	h.Close()
}

func TestOpen_OtherMinorVersion(t *testing.T) {
	for _, fault := range []string{"newer-minor", "older-minor"} {
		t.Run(fault, func(t *testing.T) {
			file := hosttest.WriteConfig(t, hosttest.BuildFaulty(t, fault), t.TempDir())
			done := func(context.Context, shared.Delivery) (shared.Outcome, error) { return shared.OutcomeDone, nil }
			h := hosttest.Open(t, host.Config{File: file, Steps: map[string]host.Step{shared.StepNotify: {Run: done}}})
			index(t, h, "m1")
			if got := settled(t, h, takeBack(t, h, "m1").RecallID)[shared.StepNotify]; got != shared.OutcomeDone {
				t.Errorf("notify %s", got)
			}
			if _, err := h.Upgrade(within(t), host.Binary{Path: hosttest.BuildFaulty(t, fault)}); err != nil {
				t.Errorf("an upgrade: %v", err)
			}
			_, err := h.Since(within(t), shared.SinceRequest{Tenant: "acme"})
			metrics, metricsErr := h.Metrics(within(t))
			if older := fault == "older-minor"; errors.Is(err, shared.ErrUnimplemented) != older {
				t.Errorf("a call that an older plugin lacks: %v", err)
			}
			if len(metrics) == 0 || metricsErr != nil {
				t.Errorf("%d metrics, %v", len(metrics), metricsErr)
			}
		})
	}
}

func TestOpen_OtherMajorVersion(t *testing.T) {
	file := hosttest.WriteConfig(t, hosttest.BuildFaulty(t, "next-major"), t.TempDir())
	_, err := host.Open(within(t), host.Config{File: file, RunDir: hosttest.RunDir(t)})
	if err == nil || !strings.Contains(err.Error(), "Plugin version: 2, Client versions: [1]") {
		t.Errorf("got %v", err)
	}
}

func TestWatch_NewBinary(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "recall-plugin")
	put := func(from string) {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(binary+".new", data, 0o700), os.Rename(binary+".new", binary)); err != nil {
			t.Fatal(err)
		}
	}
	put(hosttest.BuildPlugin(t))
	file := hosttest.WriteConfig(t, binary, dir)
	replaceIn(t, file, "plugin {", "plugin {\n  watch = true")
	h := hosttest.Open(t, host.Config{File: file})
	index(t, h, "m1")
	until := func(what string, ok func(host.State) bool) {
		t.Helper()
		for ctx := within(t); !ok(h.State()); time.Sleep(10 * time.Millisecond) {
			if ctx.Err() != nil {
				t.Fatalf("%s: state %+v", what, h.State())
			}
		}
	}
	put(hosttest.BuildFaulty(t, "panic-prepare"))
	until("a file that is no good", func(s host.State) bool { return strings.Contains(s.Error, "prepare") })
	put(hosttest.BuildFaulty(t, "newer-minor"))
	until("a good file", func(s host.State) bool { return s.Version == "newer-minor" && s.Phase == host.PhaseRunning })
	takeBack(t, h, "m1")
}

func TestRestart_PluginThatKeepsDying(t *testing.T) {
	accounted(t)
	states := make(chan host.State, 1000)
	file := hosttest.WriteConfig(t, hosttest.BuildFaulty(t, "exit-after-activate"), t.TempDir())
	h := hosttest.Open(t, host.Config{File: file, OnState: func(s host.State) { states <- s }})
	for ctx := within(t); h.State().Phase != host.PhaseFailed; {
		select {
		case <-states:
		case <-ctx.Done():
			t.Fatalf("state %+v", h.State())
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := h.Index(short, []shared.Message{message("m1")}); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("a call got %v", err)
	}
	if _, err := h.Upgrade(within(t), host.Binary{Path: hosttest.BuildPlugin(t)}); err != nil {
		t.Fatal(err)
	}
	index(t, h, "m1")
	h.Close()
}

// told is a log that tells of the first line with some words in it.
type told struct {
	words string
	once  sync.Once
	seen  chan struct{}
}

func (l *told) Write(p []byte) (int, error) {
	if strings.Contains(string(p), l.words) {
		l.once.Do(func() { close(l.seen) })
	}
	return len(p), nil
}

func TestOpen_WaitsForTheIndex(t *testing.T) {
	dir := t.TempDir()
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), dir)
	if err := os.Mkdir(filepath.Join(dir, "index"), 0o700); err != nil {
		t.Fatal(err)
	}
	holder, err := os.Open(filepath.Join(dir, "index"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(holder.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	log := &told{words: "waiting for the index", seen: make(chan struct{})}
	let := make(chan error, 1)
	go func() {
		<-log.seen
		let <- holder.Close()
	}()
	h := hosttest.Open(t, host.Config{File: file, Logger: hclog.New(&hclog.LoggerOptions{Output: log})})
	index(t, h, "m1")
	if err := <-let; err != nil {
		t.Error(err)
	}
}

func TestUpgrade_FullDisk(t *testing.T) {
	small := smallDisk(t)
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), t.TempDir())
	replaceIn(t, file, `"index"`, fmt.Sprintf("%q", filepath.Join(small, "index")))
	h := hosttest.Open(t, host.Config{File: file})
	index(t, h, "m1")
	full, old := filepath.Join(small, "full"), h.State().PID
	fillDisk(t, small, full)
	if _, err := h.Upgrade(within(t), host.Binary{Path: hosttest.BuildPlugin(t)}); err == nil ||
		!strings.Contains(err.Error(), "disk") {
		t.Errorf("an upgrade on a full disk: %v", err)
	}
	if got, err := h.Status(within(t), "acme", []string{"m1"}); err != nil || got[0].State != shared.MessageLive ||
		h.State().PID != old {
		t.Errorf("after it a status is %v, %v, of process %d; it was %d", got, err, h.State().PID, old)
	}
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	takeBack(t, h, "m1") // waits until the old version is back
	if st := h.State(); st.Upgrades != 0 || st.Phase != host.PhaseRunning {
		t.Errorf("state %+v", st)
	}
	h.Close()
}

func TestUpgrade_IndexPathChanged(t *testing.T) {
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), t.TempDir())
	h := hosttest.Open(t, host.Config{File: file})
	index(t, h, "m1")
	old := h.State().PID
	replaceIn(t, file, `"index"`, `"elsewhere"`)
	_, err := h.Upgrade(within(t), host.Binary{Path: hosttest.BuildPlugin(t)})
	if err == nil || !strings.Contains(err.Error(), "index.path is ") || h.State().PID != old {
		t.Errorf("an upgrade: %v; %+v", err, h.State())
	}
	replaceIn(t, file, `"elsewhere"`, `"index"`)
	meddler := filepath.Join(t.TempDir(), "recall-plugin") // moves it after the host has looked
	script := fmt.Sprintf("#!/bin/sh\n/bin/sed -i 's/\"index\"/\"elsewhere\"/' %s\nexec %s\n", file,
		hosttest.BuildPlugin(t))
	if err := os.WriteFile(meddler, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Upgrade(within(t), host.Binary{Path: meddler}); err == nil ||
		!strings.Contains(err.Error(), "index.path is ") || h.State().PID != old {
		t.Errorf("an upgrade while it is moved: %v; %+v", err, h.State())
	}
	hosttest.Kill(t, h)
	moved := make(chan error, 1)
	go func() {
		got, err := h.Status(within(t), "acme", []string{"m1"})
		if err == nil && got[0].State != shared.MessageLive {
			err = fmt.Errorf("m1 is %s", got[0].State)
		}
		moved <- err
	}()
	for st := h.State(); !strings.Contains(st.Error, "index.path is "); st = h.State() {
		time.Sleep(10 * time.Millisecond) // until a start is refused
	}
	replaceIn(t, file, `"elsewhere"`, `"index"`)
	// where it took some starts to change it back
	if err := <-moved; err != nil && !errors.Is(err, shared.ErrUnavailable) {
		t.Error(err)
	}
	for h.State().Phase != host.PhaseRunning {
		time.Sleep(10 * time.Millisecond)
	}
	takeBack(t, h, "m1")
}

func TestRestart_MistakeInBlockPlugin(t *testing.T) {
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), t.TempDir())
	h := hosttest.Open(t, host.Config{File: file})
	index(t, h, "m1")
	replaceIn(t, file, "plugin {", "plugin {\n  sha256 = \"zz\"\n  later = true")
	hosttest.Kill(t, h)
	takeBack(t, h, "m1")
}

// fillDisk writes a file until its disk has nothing left.
func fillDisk(t *testing.T, disk, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill %s: %v", disk, err)
	}
}

// upgradeAt names, to this test binary run again as a host, the step of an upgrade at which to say so and wait.
const upgradeAt = "RECALL_TEST_UPGRADE_AT"

func TestUpgrade_HostKilledAtEachStep(t *testing.T) {
	for _, step := range []string{host.StepVerify, host.StepPrepare, host.StepFlush, host.StepDrain, host.StepRelease,
		host.StepActivate} {
		t.Run(step, func(t *testing.T) {
			dir := hosttest.RunDir(t)
			file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), dir)
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), asHost+"="+file, upgradeAt+"="+step)
			out, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			var pid int
			lines := bufio.NewScanner(out)
			for lines.Scan() && lines.Text() != "at "+step {
				_, _ = fmt.Sscanf(lines.Text(), "open %d", &pid)
			}
			if err := child.Process.Kill(); err != nil || pid == 0 {
				t.Fatalf("the host said %q, pid %d, %v", lines.Text(), pid, err)
			}
			_ = child.Wait()
			gone(t, pid, 5*time.Second)
			h := hosttest.Open(t, host.Config{File: file, RunDir: dir})
			takeBack(t, h, "m1")
		})
	}
}
