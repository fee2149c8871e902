package host_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

// asHost names, to this test binary run again as a host of its own, the plugin.hcl to open.
const asHost = "RECALL_TEST_HOST_FILE"

func TestMain(m *testing.M) {
	if file := os.Getenv(asHost); file != "" {
		runHost(file)
		return
	}
	goleak.VerifyTestMain(m)
}

// runHost opens a host, says so on stdout, and stays until it is killed or the host is closed.
func runHost(file string) {
	if os.Getenv(failingSteps) != "" {
		runFailingSteps(file)
		return
	}
	if os.Getenv(asOuter) != "" {
		runOuter()
		return
	}
	step := os.Getenv(upgradeAt)
	h, err := host.Open(context.Background(), host.Config{File: file, RunDir: filepath.Dir(file),
		EndWithParent: os.Getenv(asInner) != "", Logger: innerLogger(), OnState: func(s host.State) {
			if step != "" && s.Step == step {
				fmt.Println("at", step)
				select {}
			}
		}})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	if _, err := h.Index(context.Background(), []shared.Message{message("m1")}); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("open", h.State().PID)
	if step != "" {
		_, _ = h.Upgrade(context.Background(), host.Binary{Path: h.State().Binary})
	}
	for h.State().Phase != host.PhaseClosed { // the parent may end first
		time.Sleep(10 * time.Millisecond)
	}
}

// failingSteps asks this test binary, run again as a host, for recalls whose steps fail some times before they are
// done.
const failingSteps = "RECALL_TEST_FAILING_STEPS"

func runFailingSteps(file string) {
	const recalls, failures = 100, 4
	var mu sync.Mutex
	attempts := map[string]int{}
	steps := map[string]host.Step{}
	for _, name := range []string{shared.StepNotify, shared.StepHistory, shared.StepOffline} {
		steps[name] = host.Step{Run: func(_ context.Context, e shared.Delivery) (shared.Outcome, error) {
			mu.Lock()
			defer mu.Unlock()
			if attempts[name+e.Message.ID]++; attempts[name+e.Message.ID] <= failures {
				return "", errors.New("not yet")
			}
			return shared.OutcomeDone, nil
		}}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	h, err := host.Open(ctx, host.Config{File: file, RunDir: filepath.Dir(file), Steps: steps})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	defer h.Close()
	fmt.Println("open")
	for i := range recalls {
		id := fmt.Sprint("m", i)
		_, err := h.Index(ctx, []shared.Message{message(id)})
		if err == nil {
			req := recallOf(id)
			req.RecallID = "r-" + id
			_, err = h.Recall(ctx, req)
		}
		if err != nil {
			fmt.Println("error", err)
			return
		}
	}
	for i := range recalls {
		for open := true; open; time.Sleep(10 * time.Millisecond) {
			ledger, err := shared.ReadLedger(ctx, h, "acme", fmt.Sprint("r-m", i))
			if err != nil {
				fmt.Println("error", err)
				return
			}
			open = false
			for _, s := range ledger[0].Steps {
				open = open || !s.Outcome.Settles()
			}
		}
	}
	fmt.Println("settled")
}

func message(id string) shared.Message {
	return shared.Message{
		Tenant: "acme", ID: id, Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"}, Sender: "ann",
		Type: shared.TypeText, SentAt: time.Now(),
	}
}

func recallOf(id string) shared.RecallRequest {
	return shared.RecallRequest{Tenant: "acme", Targets: []shared.Target{target(id)}, Actor: shared.Actor{ID: "ann"}}
}

func target(id string) shared.Target {
	return shared.Target{MessageID: id, Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"}}
}

// within is a context for calls of a test that must not hang.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func index(t *testing.T, h *host.Host, id string) {
	t.Helper()
	got, err := h.Index(within(t), []shared.Message{message(id)})
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Status != shared.IndexAdded {
		t.Fatalf("index %s: %+v", id, got)
	}
}

func takeBack(t *testing.T, h *host.Host, id string) shared.RecallResult {
	t.Helper()
	got, err := h.Recall(within(t), recallOf(id))
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Status != shared.StatusRecalled || got[0].RecallID == "" {
		t.Fatalf("recall %s: %+v", id, got)
	}
	return got[0]
}

// settled waits until every step of a recall is settled, and returns their outcomes.
func settled(t *testing.T, h *host.Host, recallID string) map[string]shared.Outcome {
	t.Helper()
	ctx := within(t)
	for {
		ledger, err := shared.ReadLedger(ctx, h, "acme", recallID)
		if err != nil {
			t.Fatal(err)
		}
		outcomes, open := map[string]shared.Outcome{}, 0
		for _, e := range ledger {
			for _, s := range e.Steps {
				outcomes[s.Step] = s.Outcome
				if !s.Outcome.Settles() {
					open++
				}
			}
		}
		if len(ledger) > 0 && open == 0 {
			return outcomes
		}
		time.Sleep(5 * time.Millisecond) // asks again; ctx bounds it
	}
}

// gone waits until no process has this id.
func gone(t *testing.T, pid int, limit time.Duration) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		if syscall.Kill(pid, 0) == syscall.ESRCH {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d is still there after %s", pid, limit)
		}
	}
}

func TestRecall_RunsEachStepOnce(t *testing.T) {
	var mu sync.Mutex
	var order []string
	step := func(name string, outcome shared.Outcome) host.Step {
		return host.Step{Run: func(_ context.Context, e shared.Delivery) (shared.Outcome, error) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, name+" "+e.Message.ID)
			return outcome, nil
		}}
	}
	h := hosttest.Open(t, host.Config{Steps: map[string]host.Step{
		shared.StepNotify:  step("notify", shared.OutcomeDone),
		shared.StepHistory: step("history", shared.OutcomeDone),
		"previews":         step("previews", shared.OutcomeNothingToDo),
	}})
	index(t, h, "m1")
	result := takeBack(t, h, "m1")
	got := settled(t, h, result.RecallID)
	want := map[string]shared.Outcome{
		"notify": "done", "history": "done", "previews": "nothing_to_do",
		"attachments": "unsupported", "offline": "unsupported", "roaming": "unsupported", "search": "unsupported",
		"push": "unsupported",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("outcomes\n got %v\nwant %v", got, want)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(order) != 3 || order[0] != "notify m1" {
		t.Errorf("steps ran as %v", order)
	}
}

func TestStep_FailureAndPanic(t *testing.T) {
	var mu sync.Mutex
	attempts := map[string]int{}
	h := hosttest.Open(t, host.Config{Steps: map[string]host.Step{
		shared.StepHistory: {Run: func(_ context.Context, e shared.Delivery) (shared.Outcome, error) {
			mu.Lock()
			defer mu.Unlock()
			attempts[e.Message.ID]++
			switch {
			case e.Message.ID == "bad" && attempts["bad"] == 1:
				return "", errors.New("the database is away")
			case e.Message.ID == "bad" && attempts["bad"] == 2:
				panic("poison")
			case e.Message.ID == "bad" && attempts["bad"] == 3:
				runtime.Goexit() // as t.Fatal does
			}
			return shared.OutcomeDone, nil
		}},
	}})
	index(t, h, "bad")
	index(t, h, "good")
	bad, good := takeBack(t, h, "bad"), takeBack(t, h, "good")
	settled(t, h, good.RecallID)
	if got := settled(t, h, bad.RecallID)[shared.StepHistory]; got != shared.OutcomeDone {
		t.Errorf("outcome %s", got)
	}
	ledger, err := shared.ReadLedger(within(t), h, "acme", bad.RecallID)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range ledger[0].Steps {
		if s.Step == shared.StepHistory && s.Attempts != 4 {
			t.Errorf("the ledger tells of %d attempts", s.Attempts)
		}
	}
}

func TestStep_EndsDuringClose(t *testing.T) {
	dir := t.TempDir()
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), dir)
	started := make(chan struct{}, 10)
	finish := make(chan struct{})
	var mu sync.Mutex
	calls := 0
	steps := map[string]host.Step{shared.StepNotify: {Run: func(context.Context, shared.Delivery) (shared.Outcome, error) {
		mu.Lock()
		calls++
		mu.Unlock()
		started <- struct{}{}
		<-finish
		return shared.OutcomeDone, nil
	}}}
	h := hosttest.Open(t, host.Config{File: file, Steps: steps})
	index(t, h, "m1")
	result := takeBack(t, h, "m1")
	<-started
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		h.Close()
	}()
	for h.State().Phase != host.PhaseClosed { // it waits for the step
		select {
		case <-closed:
			t.Fatal("closed over a step that is under way")
		case <-time.After(50 * time.Millisecond):
			close(finish)
			<-closed
		}
	}
	h = hosttest.Open(t, host.Config{File: file, Steps: steps})
	settled(t, h, result.RecallID)
	mu.Lock()
	defer mu.Unlock()
	if calls != 1 {
		t.Errorf("the step ran %d times", calls)
	}
}

func TestStep_FailuresInAStoppedHost(t *testing.T) {
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), hosttest.RunDir(t))
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), asHost+"="+file, failingSteps+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	said := make(chan string, 10)
	go func() {
		defer close(said)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			said <- lines.Text()
		}
	}()
	if line := <-said; !strings.HasPrefix(line, "open") {
		t.Fatalf("the host said %q", line)
	}
	for stopped := 0; ; stopped++ {
		select {
		case line := <-said:
			if line != "settled" {
				t.Errorf("the host said %q", line)
			}
			return
		case <-time.After(30 * time.Millisecond):
		}
		if stopped < 40 {
			_ = child.Process.Signal(syscall.SIGSTOP)
			time.Sleep(120 * time.Millisecond) // longer than the first delay after which a step is delivered again
			_ = child.Process.Signal(syscall.SIGCONT)
		}
	}
}

func TestClose_LeavesNothing(t *testing.T) {
	runDir := hosttest.RunDir(t)
	h := hosttest.Open(t, host.Config{RunDir: runDir})
	index(t, h, "m1")
	pid := h.State().PID
	if err := errors.Join(h.Close(), h.Close()); err != nil {
		t.Error(err)
	}
	gone(t, pid, 0)
	if left, _ := filepath.Glob(filepath.Join(runDir, "plugin-dir*")); len(left) != 0 {
		t.Errorf("sockets left: %v", left)
	}
	if _, err := h.Index(within(t), []shared.Message{message("m2")}); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("a call after Close got %v", err)
	}
	if _, err := h.Upgrade(within(t), host.Binary{}); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("an upgrade after Close got %v", err)
	}
	if phase := h.State().Phase; phase != host.PhaseClosed {
		t.Errorf("phase %s", phase)
	}
}

func TestKill_UnderLoad(t *testing.T) {
	var mu sync.Mutex
	told := map[string]int{}
	h := hosttest.Open(t, host.Config{Steps: map[string]host.Step{
		shared.StepNotify: {Run: func(_ context.Context, e shared.Delivery) (shared.Outcome, error) {
			mu.Lock()
			defer mu.Unlock()
			told[e.RecallID]++
			return shared.OutcomeDone, nil
		}},
	}})
	const callers, calls, kills = 8, 60, 4
	var work sync.WaitGroup
	recalls := make(chan string, callers*calls)
	for c := range callers {
		work.Go(func() {
			for i := range calls {
				id := fmt.Sprintf("m%d-%d", c, i)
				if _, err := h.Index(within(t), []shared.Message{message(id)}); err != nil {
					t.Errorf("index %s: %v", id, err)
					return
				}
				results, err := h.Recall(within(t), recallOf(id))
				if err != nil || results[0].Status != shared.StatusRecalled {
					t.Errorf("recall %s: %+v, %v", id, results, err)
					return
				}
				recalls <- results[0].RecallID
			}
		})
	}
	for range kills {
		before := h.State().Restarts
		hosttest.Kill(t, h)
		for h.State().Restarts == before {
			time.Sleep(5 * time.Millisecond)
		}
	}
	work.Wait()
	close(recalls)
	for id := range recalls {
		if got := settled(t, h, id)[shared.StepNotify]; got != shared.OutcomeDone {
			t.Errorf("notify of %s: %s", id, got)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(told) != callers*calls {
		t.Errorf("%d recalls were told, of %d", len(told), callers*calls)
	}
}

func TestHang_PluginIsReplaced(t *testing.T) {
	h := hosttest.Open(t, host.Config{})
	index(t, h, "m1")
	before := h.State().PID
	hosttest.Hang(t, h)
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := h.Index(short, []shared.Message{message("m2")}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call of a stuck plugin got %v", err)
	}
	takeBack(t, h, "m1") // waits until the next plugin answers
	if after := h.State().PID; after == before {
		t.Error("the stuck process is still in force")
	}
	gone(t, before, time.Second)
}

func TestOpen_NotAPlugin(t *testing.T) {
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, tc := range map[string]struct{ path, words string }{
		"prints something else": {write("#!/bin/sh\necho hello; sleep 600"), "Unrecognized remote plugin message: hello"},
		"exits at once":         {write("#!/bin/sh\nexit 3"), "start plugin"},
		"never answers":         {write("#!/bin/sh\nsleep 600"), "no answer within 1s (plugin.start_timeout)"},
		"another wire": {write("#!/bin/sh\necho '1|99|unix|/nowhere|grpc|'; sleep 600"),
			"Plugin version: 99, Client versions: [1]"},
		"no program": {write("\x7fELF nothing"), "exec format error"},
	} {
		t.Run(name, func(t *testing.T) {
			runDir := hosttest.RunDir(t)
			file := hosttest.WriteConfig(t, tc.path, t.TempDir())
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			src = []byte(strings.Replace(string(src), "plugin {", "plugin {\n  start_timeout = \"1s\"", 1))
			if err := os.WriteFile(file, src, 0o600); err != nil {
				t.Fatal(err)
			}
			folder, err := os.Open(runDir) // as another host has it that waits for the lock
			if err != nil {
				t.Fatal(err)
			}
			defer folder.Close()
			_, err = host.Open(within(t), host.Config{File: file, RunDir: runDir})
			if err == nil || !strings.Contains(err.Error(), tc.words) || !strings.Contains(err.Error(), tc.path) ||
				strings.Contains(err.Error(), "Is ") && !strings.Contains(err.Error(), "Is "+tc.path) {
				t.Errorf("got %v, want %q", err, tc.words)
			}
			if left, err := folder.ReadDir(-1); len(left) != 0 || err != nil {
				t.Errorf("left: %v, %v", left, err)
			}
			waited, _ := folder.Stat()
			if named, err := os.Stat(runDir); err != nil || !os.SameFile(waited, named) {
				t.Errorf("the folder is another one, so its lock keeps nobody out: %v", err)
			}
		})
	}
}

func TestOpen_InvalidSteps(t *testing.T) {
	ok := func(context.Context, shared.Delivery) (shared.Outcome, error) { return shared.OutcomeDone, nil }
	many := map[string]host.Step{}
	for i := range shared.MaxSteps + 1 {
		many[fmt.Sprint("step", i)] = host.Step{Run: ok}
	}
	for words, steps := range map[string]map[string]host.Step{
		"33 steps; at most 32":   many,
		"notify.Run: is not set": {shared.StepNotify: {}},
		"Config.Steps":           {"a step": {Run: ok}},
	} {
		c := host.Config{File: hosttest.WriteConfig(t, "/nowhere/plugin", t.TempDir()), RunDir: hosttest.RunDir(t),
			Steps: steps}
		if _, err := host.Open(within(t), c); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("got %v, want %q", err, words)
		}
	}
}

func TestOpen_ConfigurationRefusedByPlugin(t *testing.T) {
	binary := hosttest.BuildPlugin(t)
	locked := t.TempDir()
	hosttest.Open(t, host.Config{File: hosttest.WriteConfig(t, binary, locked)}) // holds locked/index until the test ends
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ config, words string }{
		"unknown block":       {"indx {\n}\n", "plugin.hcl:9:"},
		"bad rules":           {"rules {\n  paths = [\"" + plain + "\"]\n}\n", plain},
		"rules that are away": {"rules {\n  paths = [\"/nowhere/rules\"]\n}\n", "/nowhere/rules"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := host.Open(within(t),
				host.Config{File: hosttest.WriteConfig(t, binary, t.TempDir(), tc.config), RunDir: hosttest.RunDir(t)})
			if err == nil || !strings.Contains(err.Error(), tc.words) {
				t.Errorf("got %v, want %q", err, tc.words)
			}
		})
	}
	t.Run("index of another host", func(t *testing.T) {
		file := hosttest.WriteConfig(t, binary, t.TempDir())
		replaceIn(t, file, `"index"`, fmt.Sprintf("%q", filepath.Join(locked, "index")))
		short, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := host.Open(short, host.Config{File: file, RunDir: hosttest.RunDir(t)})
		if err == nil {
			t.Error("two hosts share one index")
		}
	})
	t.Run("folder that cannot be made", func(t *testing.T) {
		file := hosttest.WriteConfig(t, binary, t.TempDir())
		replaceIn(t, file, `"index"`, fmt.Sprintf("%q", filepath.Join(plain, "index")))
		_, err := host.Open(within(t), host.Config{File: file, RunDir: hosttest.RunDir(t)})
		if err == nil || !strings.Contains(err.Error(), plain) {
			t.Errorf("got %v", err)
		}
	})
}

func replaceIn(t *testing.T, file, old, by string) {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(src), old, by, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestKill_Host(t *testing.T) {
	dir := hosttest.RunDir(t)
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), dir)
	first := exec.Command(os.Args[0])
	first.Env = append(os.Environ(), asHost+"="+file)
	out, err := first.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	line, err := bufio.NewReader(out).ReadString('\n')
	if _, scanErr := fmt.Sscanf(line, "open %d", &pid); scanErr != nil {
		t.Fatalf("the host said %q, %v", line, err)
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	gone(t, pid, 5*time.Second)
	if logs, _ := filepath.Glob(filepath.Join(dir, "index", "*.mem")); len(logs) != 0 {
		t.Errorf("the index was not closed: %v", logs)
	}
	h := hosttest.Open(t, host.Config{File: file, RunDir: dir})
	takeBack(t, h, "m1")
	if left, _ := filepath.Glob(filepath.Join(dir, "plugin-dir*")); len(left) != 1 {
		t.Errorf("socket folders: %v; one is in use", left)
	}
}

func TestUpgrade_UnderLoad(t *testing.T) {
	h := hosttest.Open(t, host.Config{})
	stop := make(chan struct{})
	var work sync.WaitGroup
	for c := range 4 {
		work.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				id := fmt.Sprintf("m%d-%d", c, i)
				if _, err := h.Index(within(t), []shared.Message{message(id)}); err != nil {
					t.Error(err)
					return
				}
				takeBack(t, h, id)
			}
		})
	}
	before := h.State().PID
	report, err := h.Upgrade(within(t), host.Binary{Path: hosttest.BuildPlugin(t)})
	close(stop)
	work.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if h.State().PID == before || h.State().Upgrades != 1 || report.Held <= 0 || len(report.Steps) != 6 {
		t.Errorf("state %+v, report %+v", h.State(), report)
	}
	gone(t, before, 5*time.Second) // it is reaped in the background
}

func TestUpgrade_CannotStart(t *testing.T) {
	h := hosttest.Open(t, host.Config{})
	before := h.State().PID
	if _, err := h.Upgrade(within(t), host.Binary{Path: "/nowhere/plugin"}); err == nil {
		t.Error("a missing binary was accepted")
	}
	index(t, h, "m1")
	if st := h.State(); st.PID != before || st.Phase != host.PhaseRunning {
		t.Errorf("state %+v", st)
	}
}

func TestOnState(t *testing.T) {
	states := make(chan host.State, 100)
	h := hosttest.Open(t, host.Config{OnState: func(s host.State) { states <- s }})
	hosttest.Kill(t, h)
	var seen []host.Phase
	for s := range states {
		if _, err := json.Marshal(s); err != nil {
			t.Fatal(err)
		}
		if len(seen) == 0 || seen[len(seen)-1] != s.Phase {
			seen = append(seen, s.Phase)
		}
		if s.Restarts == 1 && s.Phase == host.PhaseRunning {
			break
		}
	}
	if fmt.Sprint(seen) != "[running restarting running]" {
		t.Errorf("phases %v", seen)
	}
}

func TestIndex_RecalledMessageWithOtherFacts(t *testing.T) {
	h := hosttest.Open(t, host.Config{})
	index(t, h, "m1")
	takeBack(t, h, "m1")
	again := message("m1") // a server that accepts a copy stamps it with the time of its second arrival
	again.SentAt = again.SentAt.Add(time.Second)
	got, err := h.Index(within(t), []shared.Message{again})
	if err != nil || got[0].Status != shared.IndexRecalled {
		t.Errorf("got %+v, %v; want %s", got, err, shared.IndexRecalled)
	}
}
