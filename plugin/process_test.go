package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/plugin/internal/engine"
	"github.com/chat-recall/recall/shared"
)

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "recall")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "recall-plugin")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		panic(fmt.Sprintf("build the plugin: %v\n%s", err, out))
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		panic(err)
	}
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// byHand runs the binary as a person does.
func byHand(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestRun_ByHand(t *testing.T) {
	for _, args := range [][]string{nil, {"help"}, {"--help"}} {
		stdout, stderr, code := byHand(t, args...)
		if code != 0 || stderr != "" {
			t.Errorf("%v: exit %d, %q", args, code, stderr)
		}
		for _, c := range commands {
			if !strings.Contains(stdout, "recall-plugin "+c.name) || c.help == "" {
				t.Errorf("%v does not tell of %s: %q", args, c.name, stdout)
			}
		}
		if !strings.Contains(stdout, "plugin.hcl") || !strings.Contains(stdout, "recall/host") {
			t.Errorf("%v does not tell how it is loaded: %q", args, stdout)
		}
	}
	for _, args := range [][]string{{"frobnicate"}, {"--frobnicate"}, {"version", "-xml"}, {"version", "everything"}} {
		if stdout, stderr, code := byHand(t, args...); code != 2 || stdout != "" ||
			!strings.Contains(stderr, args[len(args)-1]) {
			t.Errorf("%v: exit %d, %q, %q", args, code, stdout, stderr)
		}
	}
}

func TestRun_MissingCase(t *testing.T) {
	if stdout, stderr, code := byHand(t, "explain", "--case", "-"); code != 2 || stdout != "" ||
		!strings.Contains(stderr, "JSON") {
		t.Errorf("with nothing on standard input it exits with %d and prints %q and %q", code, stdout, stderr)
	}
}

func TestVersion_TextAndJSON(t *testing.T) {
	stdout, _, code := byHand(t, "version", "--json")
	var d shared.Description
	if err := json.Unmarshal([]byte(stdout), &d); code != 0 || err != nil {
		t.Fatalf("exit %d, %v: %q", code, err, stdout)
	}
	if d.Name != "recall-plugin" || d.Version == "" || len(d.ProtocolVersions) != 1 || d.IndexFormat != index.Format {
		t.Errorf("got %+v", d)
	}
	stdout, _, code = byHand(t, "version")
	if code != 0 || !strings.HasPrefix(stdout, "recall-plugin "+d.Version+"\n") {
		t.Errorf("exit %d, %q", code, stdout)
	}
}

func TestServe_InvalidHostPipe(t *testing.T) {
	for _, fd := range []string{"stdin", "0", "77"} {
		cmd := exec.CommandContext(t.Context(), binary)
		cmd.Env = []string{wire.Handshake.MagicCookieKey + "=" + wire.Handshake.MagicCookieValue, wire.HostPipeEnv + "=" + fd}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), wire.HostPipeEnv) {
			t.Errorf("%s: %v, %s", fd, err, out)
		}
	}
}

// process is a plugin process and the host's end of it.
type process struct {
	*wire.Client
	t      *testing.T
	client *plugin.Client
	conn   *grpc.ClientConn // of Client
	cmd    *exec.Cmd
	pipe   *os.File // the host's end: closing it is the host's end
	dir    string
}

// launch starts a plugin that is configured in dir, and activates it.
func launch(t *testing.T, dir string) *process {
	t.Helper()
	p := standby(t, dir)
	if err := p.Activate(t.Context(), []wire.StepPlan{{Name: shared.StepNotify}, {Name: shared.StepHistory}}); err != nil {
		t.Fatal(err)
	}
	return p
}

// standby starts a plugin that is configured in dir, and prepares it.
func standby(t *testing.T, dir string) *process {
	t.Helper()
	sockets, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, dir: dir, pipe: ours, cmd: exec.Command(binary)}
	p.cmd.ExtraFiles = []*os.File{theirs}
	p.cmd.Env = []string{wire.HostPipeEnv + "=3", plugin.EnvUnixSocketDir + "=" + sockets}
	p.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: wire.Handshake, VersionedPlugins: wire.VersionedPlugins(nil), Cmd: p.cmd,
		AutoMTLS: true, AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC}, SkipHostEnv: true,
		Logger:          hclog.NewNullLogger(),
		GRPCDialOptions: wire.DialOptions(),
	})
	t.Cleanup(func() {
		p.client.Kill()
		_ = ours.Close()
		_ = os.RemoveAll(sockets)
	})
	rpc, err := p.client.Client()
	_ = theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := rpc.Dispense(wire.PluginName)
	if err != nil {
		t.Fatal(err)
	}
	p.Client, p.conn = raw.(*wire.Client), rpc.(*plugin.GRPCClient).Conn
	config := filepath.Join(dir, "plugin.hcl")
	if err := os.WriteFile(config, []byte("plugin {\n}\nindex {\n  path = \"index\"\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if ds, err := p.Prepare(t.Context(), config); err != nil || len(ds) > 0 {
		t.Fatalf("prepare: %v %v", ds, err)
	}
	return p
}

func TestFlush_ShortLog(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, dir)
	logged := func() (bytes int) {
		logs, err := filepath.Glob(filepath.Join(dir, "index", "*.mem"))
		if err != nil {
			t.Fatal(err)
		}
		for _, log := range logs {
			data, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			bytes += len(strings.TrimRight(string(data), "\x00")) // the rest is allocated and not written yet
		}
		return bytes
	}
	for i := range 5 {
		var ids []string
		for j := range 1000 {
			ids = append(ids, fmt.Sprint("m", i, "-", j))
		}
		p.index(ids...)
	}
	before := logged()
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := logged(); before == 0 || after > before/2 {
		t.Errorf("%d bytes logged before and %d after", before, after)
	}
}

func TestActivate_GarbageCollector(t *testing.T) {
	before := debug.SetGCPercent(-1)
	defer debug.SetGCPercent(before)
	s := served{engine.New(engine.Options{}), 77}
	if err := s.Activate(t.Context(), nil); err == nil {
		t.Error("activated without being prepared")
	}
	if got := debug.SetGCPercent(-1); got != 77 {
		t.Errorf("GC percent %d", got)
	}
}

func TestServe_Processors(t *testing.T) {
	for all, want := range map[int]int{1: 1, 2: 1, 3: 1, 4: 2, 64: 32} {
		if got := processors("", all); got != want {
			t.Errorf("%d of %d; want %d", got, all, want)
		}
	}
	before := runtime.GOMAXPROCS(0)
	runtime.SetDefaultGOMAXPROCS() // whatever the environment of this test sets
	all := runtime.GOMAXPROCS(before)
	for setting, want := range map[string]int{"": max(1, all/2), "GOMAXPROCS=3": 3} {
		t.Run("process with "+setting, func(t *testing.T) {
			var log bytes.Buffer
			cmd := exec.CommandContext(t.Context(), binary)
			cmd.Env = []string{
				wire.Handshake.MagicCookieKey + "=" + wire.Handshake.MagicCookieValue, "PLUGIN_PROTOCOL_VERSIONS=1",
				wire.HostPipeEnv + "=0", setting, // with which it ends
			}
			cmd.Stderr = &log
			if err := cmd.Run(); cmd.ProcessState.ExitCode() != exitBad {
				t.Fatalf("%v: %s", err, &log)
			}
			line, _, _ := strings.Cut(log.String(), "\n")
			if !strings.Contains(line, fmt.Sprintf(`"gomaxprocs":%d,`, want)) {
				t.Errorf("it runs on another number of processors than %d: %s", want, line)
			}
		})
	}
}

func TestServe_LaneThatIsNone(t *testing.T) {
	pipe, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	for _, value := range []string{"lane", "2", "3", "77"} { // 3 is no socket, 77 is not open
		var log bytes.Buffer
		cmd := exec.CommandContext(t.Context(), binary)
		cmd.Env = []string{
			wire.Handshake.MagicCookieKey + "=" + wire.Handshake.MagicCookieValue, "PLUGIN_PROTOCOL_VERSIONS=1",
			wire.LaneFDEnv + "=" + value,
		}
		cmd.ExtraFiles, cmd.Stderr = []*os.File{pipe}, &log
		if err := cmd.Run(); cmd.ProcessState.ExitCode() != exitBad || !strings.Contains(log.String(), wire.LaneFDEnv+"=") {
			t.Errorf("%s=%s: %v: %s", wire.LaneFDEnv, value, err, &log)
		}
	}
}

// gone waits until the process has ended and returns its exit code, -1 after a signal.
func (p *process) gone() int {
	p.t.Helper()
	select {
	case <-p.Done():
	case <-time.After(20 * time.Second):
		p.t.Fatal("the process is still there")
	}
	p.client.Kill()
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) index(ids ...string) {
	p.t.Helper()
	var msgs []shared.Message
	for _, id := range ids {
		msgs = append(msgs, shared.Message{
			Tenant: "acme", ID: id, Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"}, Sender: "ann",
			Type: shared.TypeText, SentAt: time.Now(),
		})
	}
	if _, err := p.Index(p.t.Context(), msgs); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) recall(recallID string, ids ...string) []shared.RecallResult {
	p.t.Helper()
	req := shared.RecallRequest{Tenant: "acme", Actor: shared.Actor{ID: "ann"}, RecallID: recallID}
	for _, id := range ids {
		req.Targets = append(req.Targets, shared.Target{
			MessageID: id, Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"},
		})
	}
	results, err := p.Recall(p.t.Context(), req)
	if err != nil {
		p.t.Fatal(err)
	}
	return results
}

// free checks that the index can be taken at once, and that it holds the message.
func (p *process) free(id string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Second)
	defer cancel()
	x, err := index.Open(ctx, index.Options{Path: filepath.Join(p.dir, "index")})
	if err != nil {
		p.t.Fatal(err)
	}
	defer x.Close()
	if records, err := x.Messages("acme", []string{id}); err != nil || records[0] == nil {
		p.t.Errorf("message %s: %v, %v", id, records, err)
	}
}

func TestKill_AcknowledgedCalls(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, dir)
	p.index("a", "b", "c")
	for _, r := range p.recall("r", "a", "b") {
		if r.Status != shared.StatusRecalled || r.Rule.Name != "sender_in_window" {
			t.Fatalf("got %+v", r)
		}
	}
	// The host does everything for one of the two.
	settled := make(chan string, 10)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- p.Deliver(ctx, func(due []shared.Delivery) {
			for _, d := range due {
				if d.Message.ID != "a" {
					continue
				}
				errs, err := p.Settle(ctx, []wire.Settlement{wire.NewSettlement(&d, shared.OutcomeDone, nil)})
				if err := errors.Join(append(errs, err)...); err != nil {
					t.Error(err)
				}
				settled <- d.Step
			}
		})
	}()
	if one, two := <-settled, <-settled; one != shared.StepNotify || two != shared.StepHistory {
		t.Errorf("settled %s, then %s", one, two)
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("Events ended with %v", err)
	}
	cancel()
	p.gone()

	p = launch(t, dir)
	states, err := p.Status(t.Context(), "acme", []string{"a", "b", "c"})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []shared.MessageState{shared.MessageRecalled, shared.MessageRecalled, shared.MessageLive} {
		if states[i].State != want {
			t.Errorf("%s is %s, want %s", states[i].MessageID, states[i].State, want)
		}
	}
	if again := p.recall("r", "a")[0]; again.Status != shared.StatusRecalled {
		t.Errorf("the retry got %+v", again)
	}
	ctx, cancel = context.WithCancel(t.Context())
	events := make(chan shared.Delivery, 10)
	go func() {
		ended <- p.Deliver(ctx, func(due []shared.Delivery) {
			for _, d := range due {
				events <- d
			}
		})
	}()
	if e := <-events; e.Message.ID != "b" || e.Step != shared.StepNotify || e.Attempt != 1 {
		t.Errorf("after the restart the host got %+v", e)
	}
	cancel()
	<-ended
	if err := p.Quiesce(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.free("a")
	if h, err := p.Health(t.Context()); err != nil || h.State != wire.StateQuiesced {
		t.Errorf("health %+v, %v", h, err)
	}
}

// A host that waited for the index in vain is told that another process has it, and not only that time is up.
func TestActivate_IndexHeldByAnotherProcess(t *testing.T) {
	first := launch(t, t.TempDir())
	second := standby(t, first.dir)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	err := second.Activate(ctx, nil)
	if err == nil || !strings.Contains(err.Error(), index.ErrLocked.Error()) ||
		!strings.Contains(err.Error(), filepath.Join(first.dir, "index")) {
		t.Errorf("got %v", err)
	}
	if h, err := second.Health(t.Context()); err != nil || h.State != wire.StateStandby ||
		!strings.Contains(h.Reason, index.ErrLocked.Error()) {
		t.Errorf("health %+v, %v", h, err)
	}
	if err := first.Quiesce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := second.Activate(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestServe_HostGone(t *testing.T) {
	p := launch(t, t.TempDir())
	p.index("a")
	at := time.Now()
	if err := p.pipe.Close(); err != nil {
		t.Fatal(err)
	}
	code := p.gone()
	if took := time.Since(at); took > 20*leaveTimeout { // which is below a second; the rest is for neighbors
		t.Errorf("it took %v", took)
	}
	if code != 0 {
		t.Errorf("exit %d", code)
	}
	p.free("a")
}

func TestServe_Signals(t *testing.T) {
	p := launch(t, t.TempDir())
	p.index("a")
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if h, err := p.Health(t.Context()); err != nil || h.State != wire.StateActive {
			t.Fatalf("after SIGINT: %+v, %v", h, err)
		}
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.gone(); code != 0 {
		t.Errorf("exit %d", code)
	}
	p.free("a")
}

func TestServe_LargestRequests(t *testing.T) {
	p := launch(t, t.TempDir())
	batch := func(n int) []shared.Message {
		var msgs []shared.Message
		for i := range n {
			m := shared.Message{
				Tenant: "acme", ID: fmt.Sprint(n, "-", i),
				Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"}, Sender: "ann",
				Type: shared.TypeText, SentAt: time.Now(),
			}
			for a := range shared.MaxAttachments {
				m.Attachments = append(m.Attachments, shared.Attachment{Key: fmt.Sprint(n, i, a, strings.Repeat("x", 1000))})
			}
			msgs = append(msgs, m)
		}
		return msgs
	}
	if _, err := p.Index(t.Context(), batch(60)); err != nil { // 6 MB: more than gRPC's own limit
		t.Errorf("6 MB: %v", err)
	}
	_, err := p.Index(t.Context(), batch(200)) // 20 MB
	if !errors.Is(err, shared.ErrInvalid) || !strings.Contains(fmt.Sprint(err), fmt.Sprint(wire.MaxWireBytes)) {
		t.Errorf("20 MB: %v", err)
	}
}
