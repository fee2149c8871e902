package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

// callsOfActive are the calls that only an active engine answers.
func callsOfActive(r *rig) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Index": func(ctx context.Context) error {
			_, err := r.Index(ctx, []shared.Message{r.message("m")})
			return err
		},
		"Recall": func(ctx context.Context) error { _, err := r.Recall(ctx, request("r", "m")); return err },
		"Check":  func(ctx context.Context) error { _, err := r.Check(ctx, request("r", "m")); return err },
		"Status": func(ctx context.Context) error { _, err := r.Status(ctx, "acme", []string{"m"}); return err },
		"Since": func(ctx context.Context) error {
			_, err := r.Since(ctx, shared.SinceRequest{Tenant: "acme"})
			return err
		},
		"List": func(ctx context.Context) error {
			_, err := r.List(ctx, shared.ListRequest{Tenant: "acme"})
			return err
		},
		"Ledger": func(ctx context.Context) error {
			_, err := r.Ledger(ctx, shared.LedgerRequest{Tenant: "acme", RecallID: "r"})
			return err
		},
		"Settle": func(ctx context.Context) error { return r.settleStep(ctx, 1, "notify", shared.OutcomeDone, "") },
		"Reload": func(ctx context.Context) error { _, err := r.Reload(ctx); return err },
		"Flush":  func(ctx context.Context) error { return r.Flush(ctx) },
		"Backup": func(ctx context.Context) error { return r.Backup(ctx, io.Discard) },
		"Retry":  func(ctx context.Context) error { return r.Retry(ctx, nil) },
		"Deliver": func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			if err := r.deliver(ctx, func(settler) {}); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		},
	}
}

func TestCalls_InEachState(t *testing.T) {
	r := newStandby(t, "")
	check := func(state wire.State, answers bool) {
		t.Helper()
		for name, call := range callsOfActive(r) {
			err := call(t.Context())
			if answers && err != nil && !errors.Is(err, shared.ErrInvalid) { // there is no event to settle
				t.Errorf("%s, %s: %v", state, name, err)
			}
			if !answers && (!errors.Is(err, shared.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), string(state)+":")) {
				t.Errorf("%s, %s: got %v", state, name, err)
			}
		}
		h, err := r.Health(t.Context())
		if err != nil || h.State != state || (h.Reason == "") != answers || !h.Since.Equal(r.clock.Now()) {
			t.Errorf("%s: health %+v, %v", state, h, err)
		}
		if _, err := r.Describe(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := r.Metrics(t.Context()); err != nil {
			t.Error(err)
		}
	}
	check(wire.StateStandby, false)
	r.clock.Advance(time.Minute)
	r.activate()
	check(wire.StateActive, true)
	r.clock.Advance(time.Minute)
	for range 2 {
		if err := r.Quiesce(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	check(wire.StateQuiesced, false)
	if err := r.Activate(t.Context(), nil); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("a quiesced engine was activated: %v", err)
	}
	if _, err := r.Prepare(t.Context(), r.path("plugin.hcl")); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("a quiesced engine was prepared: %v", err)
	}
}

func TestPrepare_Diagnostics(t *testing.T) {
	r := newStandby(t, "")
	if _, err := os.Stat(r.path("index")); !os.IsNotExist(err) {
		t.Errorf("the index was opened: %v", err)
	}
	_, err := r.Prepare(t.Context(), "plugin.hcl")
	field(t, "a relative path", err, "config_file")
	for text, want := range map[string]string{
		`index {`: "plugin.hcl:1:7",
		"index { path = \"index\" }\nrules { paths = [\"bad.hcl\"] }":  "bad.hcl:2:3",
		"index { path = \"index\" }\nrules { paths = [\"none.hcl\"] }": "none.hcl: ",
	} {
		r.write("plugin.hcl", text)
		r.write("bad.hcl", "permit \"x\" {\n  color = \"red\"\n}\n")
		ds, err := r.Prepare(t.Context(), r.path("plugin.hcl"))
		if err != nil || !ds.HasErrors() || !strings.Contains(ds.Err().Error(), r.path(want)) {
			t.Errorf("%q: got %v, %v, want %s", text, ds, err, want)
		}
		if err := r.Activate(t.Context(), nil); !errors.Is(err, shared.ErrUnavailable) {
			t.Errorf("%q: activated with %v", text, err)
		}
	}
}

func TestActivate_Steps(t *testing.T) {
	r := newStandby(t, "")
	var many []string
	for i := range shared.MaxSteps + 1 {
		many = append(many, fmt.Sprintf("s%d", i))
	}
	field(t, "too many", r.Activate(t.Context(), plan(many...)), "steps")
	field(t, "no name", r.Activate(t.Context(), plan("notify", "No Step")), "steps[1]")
	field(t, "twice", r.Activate(t.Context(), plan("notify", "history", "notify")), "steps[2]")
	circle := []wire.StepPlan{{Name: "history", After: []string{"wipe"}}, {Name: "wipe", After: []string{"history"}}}
	field(t, "a circle", r.Activate(t.Context(), circle), "steps[0].after[0]")
	if h, _ := r.Health(t.Context()); h.State != wire.StateStandby {
		t.Fatalf("state %s", h.State)
	}
	r.activate()
	r.activate()
	if err := r.Activate(t.Context(), plan("wipe", "notify", "history")); err != nil {
		t.Errorf("the same steps in another order: %v", err)
	}
	if err := r.Activate(t.Context(), plan("notify")); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("other steps: %v", err)
	}
	ordered := plan("notify", "history", "wipe")
	ordered[1].After = []string{"wipe"}
	if err := r.Activate(t.Context(), ordered); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("another order: %v", err)
	}
	if _, err := r.Prepare(t.Context(), r.path("plugin.hcl")); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("an active engine was prepared: %v", err)
	}
}

func TestActivate_IndexCannotBeOpened(t *testing.T) {
	r := newStandby(t, "")
	r.write("index", "a file where the folder should be")
	if err := r.Activate(t.Context(), nil); err == nil || !strings.Contains(err.Error(), r.path("index")) {
		t.Errorf("got %v", err)
	}
	if h, err := r.Health(t.Context()); err != nil || h.State != wire.StateStandby ||
		!strings.Contains(h.Reason, r.path("index")) {
		t.Errorf("health %+v, %v", h, err)
	}
	if err := os.Remove(r.path("index")); err != nil {
		t.Fatal(err)
	}
	r.activate()
}

// The next process waits for the index until this one has released it.
func TestActivate_WaitsForTheIndex(t *testing.T) {
	first := newActive(t, "")
	first.index(first.message("a"))
	second := *first
	second.start()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := second.Activate(ctx, nil); err == nil {
		t.Fatal("two processes have the index")
	}
	got := make(chan error, 1)
	go func() { got <- second.Activate(within(t, 30*time.Second), nil) }()
	if err := first.Quiesce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if st, err := second.Status(t.Context(), "acme", []string{"a"}); err != nil || st[0].State != shared.MessageLive {
		t.Errorf("got %+v, %v", st, err)
	}
}

func TestExpect(t *testing.T) {
	first := newActive(t, "")
	first.index(first.message("m"))
	h, err := first.Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Expect(t.Context(), h.Index); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("while it is active: %v", err)
	}
	if err := first.Quiesce(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := *first
	second.start()
	expect := func(index shared.IndexIdentity) {
		t.Helper()
		if err := second.Expect(t.Context(), index); err != nil {
			t.Fatal(err)
		}
	}
	other := h.Index
	other.ID = "another"
	expect(other)
	expect(shared.IndexIdentity{}) // the host knows of none, which changes nothing
	if err := second.Activate(t.Context(), plan("notify")); err == nil {
		t.Fatal("activated with another index")
	}
	expect(h.Index)
	if err := second.Activate(t.Context(), plan("notify")); err != nil {
		t.Errorf("with its index: %v", err)
	}
}

func TestQuiesce_DuringActivate(t *testing.T) {
	first := newActive(t, "")
	second := *first
	second.start()
	got := make(chan error, 1)
	go func() { got <- second.Activate(within(t, time.Minute), nil) }()
	if err := second.Quiesce(within(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err == nil {
		t.Error("it was activated")
	}
}

// What the host does in handle may itself wait for the plugin, so quiescing must not wait for it.
func TestQuiesce_EndsDeliveries(t *testing.T) {
	r := newActive(t, "")
	r.index(r.message("a"))
	r.recall(request("r", "a"))
	handling, release, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- r.deliver(t.Context(), func(settler) {
			close(handling)
			<-release
		})
	}()
	<-handling
	if err := r.Quiesce(within(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("Events returned before its handle: %v", err)
	default:
	}
	close(release)
	if err := <-ended; !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("Events ended with %v", err)
	}
}

// Whatever was acknowledged while the engine was quiesced is there afterwards, and the rest was refused.
func TestQuiesce_CallsUnderWay(t *testing.T) {
	r := newActive(t, "")
	var mu sync.Mutex
	var taken []string
	var wg sync.WaitGroup
	started := make(chan struct{}, 64)
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d", w, i)
				_, err := r.Index(t.Context(), []shared.Message{r.message(id)})
				if errors.Is(err, shared.ErrUnavailable) {
					return
				}
				if err != nil {
					t.Errorf("got %v", err)
					return
				}
				mu.Lock()
				taken = append(taken, id)
				mu.Unlock()
				if i == 4 {
					started <- struct{}{}
				}
			}
		})
		wg.Go(func() {
			for {
				if _, err := r.Status(t.Context(), "acme", []string{"0-0"}); err != nil {
					return
				}
			}
		})
	}
	for range 8 {
		<-started
	}
	for range 4 {
		wg.Go(func() {
			if err := r.Quiesce(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	r.start()
	r.activate()
	for len(taken) > 0 {
		n := min(len(taken), shared.MaxStatusIDs)
		states, err := r.Status(t.Context(), "acme", taken[:n])
		if err != nil {
			t.Fatal(err)
		}
		for _, st := range states {
			if st.State != shared.MessageLive {
				t.Errorf("message %s was acknowledged and is %s", st.MessageID, st.State)
			}
		}
		taken = taken[n:]
	}
}

func TestHealth_BesideTheWork(t *testing.T) {
	r := newActive(t, "")
	before, err := r.Health(t.Context())
	if err != nil || before.Index.ID == "" || before.Waiting != 0 {
		t.Fatalf("%+v %v", before, err)
	}
	var calls sync.WaitGroup
	done := make(chan struct{})
	for c := range 8 {
		calls.Go(func() {
			for i := range 4 {
				var batch []shared.Message
				for k := range 500 {
					batch = append(batch, r.message(fmt.Sprintf("m-%d-%d-%d", c, i, k)))
				}
				if _, err := r.Index(t.Context(), batch); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() {
		defer close(done)
		calls.Wait()
	}()
	busy := false
	for finished := false; !finished; {
		select {
		case <-done:
			finished = true
		default:
		}
		h, err := r.Health(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		busy = busy || h.Waiting > 0
	}
	after, err := r.Health(t.Context())
	for err == nil && after.Waiting != 0 { // a call is answered a moment before it is counted
		after, err = r.Health(t.Context())
	}
	if err != nil || !busy || after.Done <= before.Done {
		t.Errorf("before %+v, after %+v, seen busy: %v, %v", before, after, busy, err)
	}
}

const (
	nobody = `forbid "all" { code = "closed" }`
	anyone = `permit "all" { window = "1h" }`
)

func TestReload_NextDecision(t *testing.T) {
	r := newActive(t, nobody)
	r.index(r.message("a"))
	code := func() shared.Code {
		t.Helper()
		got, err := r.Check(t.Context(), request("r", "a"))
		if err != nil {
			t.Fatal(err)
		}
		return got[0].Code
	}
	if code() != "closed" {
		t.Fatalf("code %q", code())
	}
	r.write("rules.hcl", "permit {")
	ds, err := r.Reload(t.Context())
	if err != nil || !ds.HasErrors() || ds[0].File != r.path("rules.hcl") || ds[0].Line != 1 {
		t.Errorf("got %v, %v", ds, err)
	}
	if code() != "closed" {
		t.Errorf("after a broken file the code is %q", code())
	}
	r.write("rules.hcl", anyone)
	if ds, err := r.Reload(t.Context()); err != nil || len(ds) > 0 {
		t.Errorf("got %v, %v", ds, err)
	}
	if code() != "" {
		t.Errorf("after the reload the code is %q", code())
	}
	// more if they were seen before Reload was called
	if n, m := r.metric("recall_rules_reloads_total", "result", "loaded"),
		r.metric("recall_rules_reloads_total", "result", "refused"); n < 1 || m < 1 {
		t.Errorf("reloaded %v, refused %v", n, m)
	}
}

// One request of many messages is decided by one policy, however often the rules change meanwhile.
func TestRecall_OnePolicyPerRequest(t *testing.T) {
	r := newActive(t, anyone)
	var ids []string
	for i := range shared.MaxRecallTargets {
		ids = append(ids, fmt.Sprint(i))
		r.index(r.message(ids[i]))
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			r.write("rules.hcl", []string{nobody, anyone}[i%2])
			if ds, err := r.Reload(t.Context()); err != nil || len(ds) > 0 {
				t.Errorf("got %v, %v", ds, err)
				return
			}
		}
	})
	for range 200 {
		got, err := r.Check(t.Context(), request("r", ids...))
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range got {
			if x.Status != got[0].Status {
				t.Fatalf("one request got %s and %s", got[0].Status, x.Status)
			}
		}
	}
	close(stop)
	wg.Wait()
}

func TestMetrics_Counts(t *testing.T) {
	r := newActive(t, "")
	r.index(r.message("a"), r.message("b"))
	bob := request("r", "a")
	bob.Actor.ID = "bob"
	r.recall(bob)
	r.recall(request("r", "a", "nothing"))
	r.recall(request("s", "a"))
	all, err := r.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range all {
		if i > 0 && all[i-1].Name > m.Name {
			t.Errorf("%s stands before %s", all[i-1].Name, m.Name)
		}
		if m.Kind == "" {
			t.Errorf("%s has no kind", m.Name)
		}
	}
	for _, want := range []struct {
		value  float64
		name   string
		labels []string
	}{
		{2, "recall_messages_total", []string{"status", "indexed"}},
		{1, "recall_recalls_total", []string{"status", "recalled"}},
		{1, "recall_recalls_total", []string{"status", "already_recalled"}},
		{1, "recall_recalls_total", []string{"status", "denied", "code", "forbidden"}},
		{1, "recall_recalls_total", []string{"status", "denied"}},
		{1, "recall_recalls_total", []string{"status", "not_found"}},
		{1, "recall_active", nil}, {1, "recall_index_sequence", nil},
	} {
		if got := r.metric(want.name, want.labels...); got != want.value {
			t.Errorf("%s %v is %v, want %v", want.name, want.labels, got, want.value)
		}
	}
	r.clock.Advance(time.Minute) // while the step notify is open
	if age := r.metric("recall_step_oldest_open_seconds", "step", "notify"); age != 60 {
		t.Errorf("the oldest open step is %v s old", age)
	}
	if err := r.settleStep(t.Context(), 1, "notify", shared.OutcomeFailed, "not now"); err != nil {
		t.Fatal(err)
	}
	if age := r.metric("recall_step_oldest_open_seconds", "step", "notify"); age != 60 {
		t.Errorf("once it backs off it is %v s old", age)
	}
}

func TestMetrics_CountersFromTheStart(t *testing.T) {
	r := newActive(t, "")
	all, err := r.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []map[string]string{
		{"": "recall_messages_total", "status": "conflict"},
		{"": "recall_recalls_total", "status": "denied", "code": "rate_limited"},
		{"": "recall_steps_total", "step": "wipe", "outcome": "failed"},
		{"": "recall_rules_reloads_total", "result": "refused"},
	} {
		if !slices.ContainsFunc(all, func(m shared.Metric) bool {
			for label, value := range want {
				if label != "" && m.Labels[label] != value {
					return false
				}
			}
			return m.Name == want[""] && m.Kind == shared.MetricCounter && m.Value == 0
		}) {
			t.Errorf("there is no %v", want)
		}
	}
}

func TestObserve(t *testing.T) {
	r := newActive(t, "")
	for _, err := range []error{nil, status.Error(codes.ResourceExhausted, "full"), nil} {
		_, done := r.Observe(t.Context(), "Index")
		done(err)
	}
	all, err := r.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if m.Name == "recall_call_seconds" && (m.Count != 3 || m.Labels["method"] != "Index" || len(m.Buckets) == 0) {
			t.Errorf("got %+v", m)
		}
	}
	if n := r.metric("recall_call_errors_total", "method", "Index", "code", "ResourceExhausted"); n != 1 {
		t.Errorf("%v errors", n)
	}
}

func TestMetrics_Documented(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	r := newActive(t, "")
	r.index(r.message("a"), r.message("b"))
	bob := request("r", "b")
	bob.Actor.ID = "bob"
	r.recall(bob)
	r.recall(request("r", "a", "nothing"))
	if err := r.settleStep(t.Context(), 1, "notify", shared.OutcomeFailed, "not now"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Check(t.Context(), request("c", "b")); err != nil {
		t.Fatal(err)
	}
	all, err := r.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if !strings.Contains(string(doc), "`"+m.Name+"`") {
			t.Errorf("docs/operating.md does not have %s", m.Name)
		}
	}
}

func TestDescribe_Fields(t *testing.T) {
	got := Describe("v1.2.3")
	want := shared.Description{Name: "recall-plugin", Version: "v1.2.3", ProtocolVersions: []int{1}, IndexFormat: 3}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}
