package wire

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// at is a time as the wire keeps it.
var at = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

var (
	fullMessage = shared.Message{
		Tenant: "acme", ID: "m/1", Conversation: shared.Conversation{Type: shared.ConversationChatroom, ID: "lobby"},
		Sender: "ann", Type: shared.TypeCombine, SentAt: at, Labels: []string{"hold"}, Ref: "row 7",
		Attachments: []shared.Attachment{{Key: "https://files/a b", Owner: "zoe"}},
		Relations:   []shared.Relation{{Kind: shared.RelationEdit, MessageID: "m/0"}},
	}
	fullActor = shared.Actor{ID: "bob", Labels: []string{"trusted"}}
	fullEvent = shared.Event{
		Sequence: 7, Tenant: "acme", RecallID: "r1", Actor: fullActor, Role: shared.RoleOwner, Ext: "{}",
		Reason: "wrong room", RecalledAt: at, Message: fullMessage, Attachments: fullMessage.Attachments,
		Rule: shared.Rule{Name: "managers", File: "a.hcl", Line: 3}, PolicyDigest: "ab",
		Silent: true, Placeholder: map[string]string{"zh-Hans": "{actor}撤回"}, Disposition: shared.DispositionArchive,
		Retention: 36 * time.Hour, MoreRelated: true, JobID: "j1",
		Cause: &shared.Relation{Kind: shared.RelationQuote, MessageID: "m/0"},
		Related: []shared.Related{
			{Kind: shared.RelationForward, MessageID: "m/2", Conversation: fullMessage.Conversation, Ref: "row 8"},
		},
	}
	fullDelivery = shared.Delivery{Event: fullEvent, Step: shared.StepHistory, Attempt: 2}
	fullRequest  = shared.RecallRequest{
		Tenant: "acme", Targets: fullTargets(), Actor: fullActor, Ext: "{}", Reason: "wrong room", RecallID: "r1",
		RequestedAt: at, Held: 1500 * time.Millisecond, Wait: time.Hour, Atomic: true,
	}
	fullForget    = shared.ForgetRequest{Tenant: "acme", Conversation: fullMessage.Conversation}
	fullForgotten = shared.ForgetResult{Done: true, Live: 1, Recalled: 2, Replaced: 3, Waiting: 4}
	fullWaits     = shared.WaitsRequest{Tenant: "acme", After: "AW0x", Limit: 9}
	fullWaiting   = shared.Waiting{
		Tenant: "acme", MessageID: "m/1", RecallID: "r1", Actor: fullActor, Role: shared.RoleAdmin,
		Conversation: fullMessage.Conversation, Labels: []string{"hold"}, Ext: "{}", Reason: "typo", RequestedAt: at,
		Until: at,
		State: shared.WaitRefused, Code: shared.CodeForbidden, Rule: fullEvent.Rule, EndedAt: at,
	}
	fullAmendment = shared.Amendment{
		Tenant: "acme", MessageID: "m/1", Conversation: &fullMessage.Conversation, Attachments: fullMessage.Attachments,
		Labels: []string{"x"}, Ref: &fullMessage.Ref,
	}
	fullSince = shared.SinceRequest{
		Tenant: "acme", Conversations: []shared.Conversation{{Type: shared.ConversationGroup, ID: "g"}}, After: "cd34-3",
		Limit: 9,
	}
	fullList = shared.ListRequest{
		Tenant: "acme", From: at, Before: at.Add(time.Hour), Actor: "ann", Sender: "bob",
		Conversation: fullMessage.Conversation, Rule: "own", JobID: "job", Steps: shared.StepsFailed, After: "cd34-3",
		Limit: 9,
	}
	fullLedger  = shared.LedgerRequest{Tenant: "acme", RecallID: "r1", After: "cd34-3", Limit: 9}
	fullRelated = shared.RelatedRequest{Tenant: "acme", MessageID: "m/1", After: "AW0x", Limit: 9}
	fullSteps   = []StepPlan{{Name: shared.StepHistory, After: []string{shared.StepAttachments}, EachNode: true}}
	fullEntry   = shared.LedgerEntry{Event: fullEvent, Steps: []shared.StepRecord{
		{Step: shared.StepHistory, Outcome: shared.OutcomeFailed, Attempts: 2, Error: "disk", ChangedAt: at, Node: "n1"},
	}}
	fullResult = shared.RecallResult{
		MessageID: "m/1", Status: shared.StatusDenied, Code: shared.CodeRateLimited, Rule: fullEvent.Rule,
		Text: map[string]string{"en": "Later."}, RecallID: "r0", RecalledBy: "bob", Role: shared.RoleNone, RecalledAt: at,
		Until: at, RetryAt: at, With: []string{"m/2"},
	}
	fullExplanation = shared.Explanation{
		MessageID: "m/1", Result: fullResult,
		Shadow: &shared.ShadowVerdict{Permit: true, Code: "late", Rule: fullEvent.Rule},
		Rules: []shared.RuleTrace{{
			Rule: fullEvent.Rule, Kind: "permit", Shadow: true, Matched: true, Decides: true,
			Conditions: []shared.RuleCondition{{
				Text: "sender = true", Holds: true, Field: "actor.is_sender", Value: "true", Depth: 1,
			}},
		}},
	}
	fullMetric = shared.Metric{
		Name: "recall_call_seconds", Kind: shared.MetricHistogram, Labels: map[string]string{"method": "Index"}, Value: 1.5,
		Count: 3, Buckets: []shared.Bucket{{UpperBound: 0.1, Count: 2}},
	}
	fullInvalid = shared.IndexResult{
		MessageID: "m/1", Status: shared.IndexInvalid, Field: "sent_at", Problem: "is in the future",
		Related: fullEvent.Related,
	}
	fullStatus = shared.MessageStatus{
		MessageID: "m/1", State: shared.MessageRecalled, Message: &fullMessage, RecallID: "r1", RecalledAt: at,
	}
	fullDiagnostics = shared.Diagnostics{{
		Severity: shared.SeverityWarning, Summary: "s", Detail: "d", File: "f", Line: 1, Column: 2, Source: "src",
	}}
	fullHealth = Health{State: StateQuiesced, Reason: "done", Since: at, Rules: shared.RulesState{
		Digest: "ab", Paths: []string{"/rules.d"}, LoadedAt: at, Warnings: fullDiagnostics,
		Refused: fullDiagnostics, Fallback: true,
	}, Index: fullIndex, Waiting: 3, Done: 4, Cluster: &shared.ClusterState{
		Node: "n0", Log: "RECALL-1", Connected: true, Position: 7, Lag: 2, BehindSince: at,
		Members: []shared.ClusterMember{
			{Node: "n1", Version: "1.2.3", Format: 1, PolicyDigest: "ab", Position: 9, Gone: true, Since: 4},
		},
	}}
	fullDescription = shared.Description{
		Name: "recall-plugin", Version: "1.2.3", ProtocolVersions: []int{1, 2}, IndexFormat: 4,
		Capabilities: []string{"tomorrow"},
	}
	fullIndex = shared.IndexIdentity{ID: "ab12", Epoch: "cd34", Version: 9}
)

func fullTargets() []shared.Target {
	return []shared.Target{{
		MessageID: "m/1", Conversation: fullMessage.Conversation, Role: shared.RoleOwner, Labels: []string{"hold"},
		Message: &fullMessage,
	}}
}

// echo answers with full values and keeps what it was asked; err, if set, is the answer of every call.
type echo struct {
	err   error
	asked []any
}

func (p *echo) Index(_ context.Context, m []shared.Message) ([]shared.IndexResult, error) {
	p.asked = []any{m}
	return []shared.IndexResult{fullInvalid}, p.err
}
func (p *echo) Amend(_ context.Context, a []shared.Amendment) ([]shared.IndexResult, error) {
	p.asked = []any{a}
	return []shared.IndexResult{fullInvalid}, p.err
}
func (p *echo) Recall(_ context.Context, r shared.RecallRequest) ([]shared.RecallResult, error) {
	p.asked = []any{r}
	return []shared.RecallResult{fullResult}, p.err
}
func (p *echo) Check(_ context.Context, r shared.RecallRequest) ([]shared.RecallResult, error) {
	p.asked = []any{r}
	return []shared.RecallResult{fullResult}, p.err
}
func (p *echo) Explain(_ context.Context, r shared.RecallRequest) ([]shared.Explanation, error) {
	p.asked = []any{r}
	return []shared.Explanation{fullExplanation}, p.err
}
func (p *echo) Status(_ context.Context, tenant string, ids []string) ([]shared.MessageStatus, error) {
	p.asked = []any{tenant, ids}
	return []shared.MessageStatus{fullStatus}, p.err
}
func (p *echo) Since(_ context.Context, r shared.SinceRequest) (shared.EventPage, error) {
	p.asked = []any{r}
	return shared.EventPage{Events: []shared.Event{fullEvent}, Next: "cd34-8", More: true, Reset: true}, p.err
}
func (p *echo) List(_ context.Context, r shared.ListRequest) (shared.EventPage, error) {
	p.asked = []any{r}
	return shared.EventPage{Events: []shared.Event{fullEvent}, Next: "cd34-8", More: true, Reset: true}, p.err
}
func (p *echo) Ledger(_ context.Context, r shared.LedgerRequest) (shared.LedgerPage, error) {
	p.asked = []any{r}
	return shared.LedgerPage{Entries: []shared.LedgerEntry{fullEntry}, Next: "cd34-8", More: true, Reset: true}, p.err
}

// Forget is asked for one thing at a time: asked has all of them.
func (p *echo) Forget(_ context.Context, r shared.ForgetRequest) (shared.ForgetResult, error) {
	if len(p.asked) > 0 {
		before := p.asked[0].(shared.ForgetRequest)
		r.Sender, r.Before = cmp.Or(r.Sender, before.Sender), cmp.Or(r.Before, before.Before)
		r.Conversation = cmp.Or(r.Conversation, before.Conversation)
	}
	p.asked = []any{r}
	return fullForgotten, p.err
}

func (p *echo) Waits(_ context.Context, r shared.WaitsRequest) (shared.WaitPage, error) {
	p.asked = []any{r}
	return shared.WaitPage{Waits: []shared.Waiting{fullWaiting}, Next: "AW0y", More: true}, p.err
}
func (p *echo) Related(_ context.Context, r shared.RelatedRequest) (shared.RelatedPage, error) {
	p.asked = []any{r}
	return shared.RelatedPage{Related: fullEvent.Related, Next: "AW0y", More: true}, p.err
}
func (p *echo) Deliver(_ context.Context, handle func([]shared.Delivery)) error {
	handle([]shared.Delivery{fullDelivery})
	return p.err
}
func (p *echo) Settle(_ context.Context, all []Settlement) ([]error, error) {
	p.asked = []any{all}
	return make([]error, len(all)), p.err
}
func (p *echo) Retry(_ context.Context, steps []string) error {
	p.asked = []any{steps}
	return p.err
}
func (p *echo) Describe(context.Context) (shared.Description, error) {
	return fullDescription, p.err
}
func (p *echo) Prepare(_ context.Context, file string) (shared.Diagnostics, error) {
	p.asked = []any{file}
	return fullDiagnostics, p.err
}
func (p *echo) Activate(_ context.Context, steps []StepPlan) error {
	p.asked = []any{steps}
	return p.err
}
func (p *echo) Flush(context.Context) error   { return p.err }
func (p *echo) Compact(context.Context) error { return p.err }
func (p *echo) Expect(_ context.Context, id shared.IndexIdentity) error {
	p.asked = []any{id}
	return p.err
}

// countingWriter counts what is written to it.
type countingWriter int

func (w *countingWriter) Write(p []byte) (int, error) {
	*w += countingWriter(len(p))
	return len(p), nil
}

func (p *echo) Backup(_ context.Context, w io.Writer) error {
	if p.err != nil {
		return p.err
	}
	_, err := w.Write(make([]byte, 3*backupChunkBytes+1))
	return err
}
func (p *echo) Quiesce(context.Context) error { return p.err }
func (p *echo) Health(context.Context) (Health, error) {
	return fullHealth, p.err
}
func (p *echo) Reload(context.Context) (shared.Diagnostics, error) { return fullDiagnostics, p.err }
func (p *echo) Metrics(context.Context) ([]shared.Metric, error) {
	return []shared.Metric{fullMetric}, p.err
}

// dial serves impl on a connection in memory.
func dial(t testing.TB, impl Plugin) *grpc.ClientConn {
	t.Helper()
	return dialServer(t, func(s *grpc.Server) { Register(s, impl) })
}

// dialServer is dial for what register puts on a server.
func dialServer(t testing.TB, register func(*grpc.Server)) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(ServerOptions()...)
	register(server)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:memory", append(DialOptions(),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// full fails if a field anywhere in v is zero: a field that the test does not fill would not be tested.
func full(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	if v.IsZero() {
		t.Errorf("%s is zero: fill it in this test, so that the wire is seen to carry it", path)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			full(t, path+"."+v.Type().Field(i).Name, v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			full(t, path, v.Index(i))
		}
	case reflect.Pointer:
		full(t, path, v.Elem())
	}
}

func TestCalls_RoundTrip(t *testing.T) {
	bothWays(t, everyCallCarriesEveryField)
}

func everyCallCarriesEveryField(t *testing.T, connect func(Plugin) *Client) {
	impl := &echo{}
	c := connect(impl)
	ctx := t.Context()
	calls := map[string]struct {
		call  func() (any, error)
		asked []any // what must reach the plugin; nil: nothing
		want  any
	}{
		"Index": {func() (any, error) { return c.Index(ctx, []shared.Message{fullMessage}) },
			[]any{[]shared.Message{fullMessage}}, []shared.IndexResult{fullInvalid}},
		"Amend": {func() (any, error) { return c.Amend(ctx, []shared.Amendment{fullAmendment}) },
			[]any{[]shared.Amendment{fullAmendment}}, []shared.IndexResult{fullInvalid}},
		"Recall": {func() (any, error) { return c.Recall(ctx, fullRequest) }, []any{fullRequest},
			[]shared.RecallResult{fullResult}},
		"Check": {func() (any, error) { return c.Check(ctx, fullRequest) }, []any{fullRequest},
			[]shared.RecallResult{fullResult}},
		"Explain": {func() (any, error) { return c.Explain(ctx, fullRequest) }, []any{fullRequest},
			[]shared.Explanation{fullExplanation}},
		"Status": {func() (any, error) { return c.Status(ctx, "acme", []string{"m/1"}) }, []any{"acme", []string{"m/1"}},
			[]shared.MessageStatus{fullStatus}},
		"Since": {func() (any, error) { return c.Since(ctx, fullSince) }, []any{fullSince},
			shared.EventPage{Events: []shared.Event{fullEvent}, Next: "cd34-8", More: true, Reset: true}},
		"List": {func() (any, error) { return c.List(ctx, fullList) }, []any{fullList},
			shared.EventPage{Events: []shared.Event{fullEvent}, Next: "cd34-8", More: true, Reset: true}},
		"Ledger": {func() (any, error) { return c.Ledger(ctx, fullLedger) }, []any{fullLedger},
			shared.LedgerPage{Entries: []shared.LedgerEntry{fullEntry}, Next: "cd34-8", More: true, Reset: true}},
		"Forget": {func() (any, error) {
			_, err := c.Forget(ctx, shared.ForgetRequest{Tenant: "acme", Sender: "ann"})
			_, err2 := c.Forget(ctx, shared.ForgetRequest{Tenant: "acme", Before: at})
			result, err3 := c.Forget(ctx, fullForget)
			return result, errors.Join(err, err2, err3)
		}, []any{
			shared.ForgetRequest{Tenant: "acme", Sender: "ann", Conversation: fullForget.Conversation, Before: at},
		}, fullForgotten},
		"Waits": {func() (any, error) { return c.Waits(ctx, fullWaits) }, []any{fullWaits},
			shared.WaitPage{Waits: []shared.Waiting{fullWaiting}, Next: "AW0y", More: true}},
		"Related": {func() (any, error) { return c.Related(ctx, fullRelated) }, []any{fullRelated},
			shared.RelatedPage{Related: fullEvent.Related, Next: "AW0y", More: true}},
		"StartJob": {func() (any, error) { return c.StartJob(ctx, fullJob.Request) }, []any{fullJob.Request}, fullJob},
		"PreviewJob": {func() (any, error) { return c.PreviewJob(ctx, fullPreviewRequest) }, []any{fullPreviewRequest},
			fullPreview},
		"JobStatus": {func() (any, error) { return c.JobStatus(ctx, "acme", "j1") }, []any{"acme", "j1"}, fullJob},
		"Jobs": {func() (any, error) { return c.Jobs(ctx, fullJobs) }, []any{fullJobs},
			shared.JobPage{Jobs: []shared.Job{fullJob}, Next: "cd34-8", More: true, Reset: true}},
		"CancelJob": {func() (any, error) { return c.CancelJob(ctx, "acme", "j1") }, []any{"acme", "j1"}, fullJob},
		"Retry": {func() (any, error) { return "retried", c.Retry(ctx, []string{shared.StepPush}) },
			[]any{[]string{shared.StepPush}}, "retried"},
		"Describe": {func() (any, error) {
			d, err := c.Describe(ctx)
			d.Capabilities = slices.DeleteFunc(d.Capabilities, func(c string) bool { return c == CapabilityLane })
			return d, err
		}, nil, fullDescription},
		"Prepare":  {func() (any, error) { return c.Prepare(ctx, "/f") }, []any{"/f"}, fullDiagnostics},
		"Activate": {func() (any, error) { return "active", c.Activate(ctx, fullSteps) }, []any{fullSteps}, "active"},
		"Expect":   {func() (any, error) { return "expected", c.Expect(ctx, fullIndex) }, []any{fullIndex}, "expected"},
		"Backup": {func() (any, error) {
			var w countingWriter
			err := c.Backup(ctx, &w)
			return int(w), err
		}, nil, 3*backupChunkBytes + 1},
		"Flush":   {func() (any, error) { return "flushed", c.Flush(ctx) }, nil, "flushed"},
		"Quiesce": {func() (any, error) { return "quiet", c.Quiesce(ctx) }, nil, "quiet"},
		"Health":  {func() (any, error) { return c.Health(ctx) }, nil, fullHealth},
		"Reload":  {func() (any, error) { return c.Reload(ctx) }, nil, fullDiagnostics},
		"Metrics": {func() (any, error) { return c.Metrics(ctx) }, nil, []shared.Metric{fullMetric}},
	}
	for name, tc := range calls {
		t.Run(name, func(t *testing.T) {
			impl.asked, impl.err = nil, nil
			full(t, name, reflect.ValueOf(tc.want))
			got, err := tc.call()
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("answer\n got %+v\nwant %+v", got, tc.want)
			}
			if !reflect.DeepEqual(impl.asked, tc.asked) {
				t.Errorf("request\n got %+v\nwant %+v", impl.asked, tc.asked)
			}
			for _, a := range tc.asked {
				full(t, name+" request", reflect.ValueOf(a))
			}
			impl.err = shared.ErrOverloaded
			if _, err := tc.call(); !errors.Is(err, shared.ErrOverloaded) {
				t.Errorf("the plugin's error came back as %v", err)
			}
		})
	}
}

func TestDeliver_EndsWithTheStream(t *testing.T) {
	c := NewClient(t.Context(), dial(t, &echo{err: shared.ErrUnavailable}))
	var got []shared.Delivery
	err := c.Deliver(t.Context(), func(due []shared.Delivery) { got = append(got, due...) })
	if !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
	if want := []shared.Delivery{fullDelivery}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestIndex_InvalidMessagesDoNotRefuseTheOthers(t *testing.T) {
	impl := &indexing{}
	c := NewClient(t.Context(), dial(t, impl))
	messages := func(ids ...string) []shared.Message {
		return mapSlice(ids, func(id string) shared.Message {
			m := fullMessage
			m.ID = id
			return m
		})
	}
	for name, tc := range map[string]struct {
		ids  []string
		sent []string
	}{
		"first":   {[]string{"", "a", "b"}, []string{"a", "b"}},
		"between": {[]string{"a", "", "b", "", "c"}, []string{"a", "b", "c"}},
		"last":    {[]string{"a", ""}, []string{"a"}},
		"all":     {[]string{"", ""}, nil},
		"none":    {[]string{"a", "b"}, []string{"a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			impl.got = nil
			results, err := c.Index(t.Context(), messages(tc.ids...))
			if err != nil || len(results) != len(tc.ids) || !slices.Equal(impl.got, tc.sent) {
				t.Fatalf("got %+v, %v; sent %v", results, err, impl.got)
			}
			for i, r := range results {
				want := shared.IndexResult{MessageID: tc.ids[i], Status: shared.IndexAdded}
				if tc.ids[i] == "" {
					want = shared.IndexResult{Status: shared.IndexInvalid, Field: "id", Problem: "is empty"}
				}
				if !reflect.DeepEqual(r, want) {
					t.Errorf("result %d is %+v, want %+v", i, r, want)
				}
			}
		})
	}
}

// indexing indexes every message and keeps the ids.
type indexing struct {
	echo
	got []string
}

func (p *indexing) Index(_ context.Context, msgs []shared.Message) ([]shared.IndexResult, error) {
	return mapSlice(msgs, func(m shared.Message) shared.IndexResult {
		p.got = append(p.got, m.ID)
		return shared.IndexResult{MessageID: m.ID, Status: shared.IndexAdded}
	}), nil
}

func TestErrors_RoundTrip(t *testing.T) {
	impl := &echo{}
	c := NewClient(t.Context(), dial(t, impl))
	for _, sentinel := range []error{shared.ErrUnavailable, shared.ErrOverloaded, shared.ErrUnimplemented} {
		impl.err = sentinel
		if _, err := c.Metrics(t.Context()); !errors.Is(err, sentinel) {
			t.Errorf("%v came back as %v", sentinel, err)
		}
	}
	impl.err = shared.Invalidf("messages[3].sent_at", "is in the future")
	_, err := c.Metrics(t.Context())
	var field *shared.FieldError
	if !errors.As(err, &field) || !errors.Is(err, shared.ErrInvalid) || *field != *impl.err.(*shared.FieldError) {
		t.Errorf("field error came back as %#v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Metrics(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the caller's own cancel came back as %v", err)
	}
}

func TestOlderPlugin_ErrUnimplemented(t *testing.T) {
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer() // with no service at all
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	conn, err := grpc.NewClient("passthrough:memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := NewClient(t.Context(), conn).Metrics(t.Context()); !errors.Is(err, shared.ErrUnimplemented) {
		t.Errorf("got %v", err)
	}
}

func TestEnums_NewerPeer(t *testing.T) {
	impl := &echo{}
	wire := recallv1.NewRecallServiceClient(dial(t, impl))
	for name, change := range map[string]func(*recallv1.Message){
		"type":              func(m *recallv1.Message) { m.Type = 99 },
		"conversation.type": func(m *recallv1.Message) { m.Conversation.Type = 99 },
	} {
		m := encodeMessage(fullMessage)
		change(m)
		if _, err := wire.Index(t.Context(), &recallv1.IndexRequest{Messages: []*recallv1.Message{m}}); err != nil {
			t.Fatal(err)
		}
		got := impl.asked[0].([]shared.Message)[0] // the plugin answers IndexInvalid for it
		var field *shared.FieldError
		if err := ValidateMessage(&got); !errors.As(err, &field) || field.Field != name {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for field, change := range map[string]func(*recallv1.RecallRequest){
		"targets[0].role":              func(r *recallv1.RecallRequest) { r.Targets[0].Role = 42 },
		"targets[0].conversation.type": func(r *recallv1.RecallRequest) { r.Targets[0].Conversation.Type = 42 },
		"targets[0].message.conversation.type": func(r *recallv1.RecallRequest) {
			r.Targets[0].Message.Conversation.Type = 42
		},
	} {
		req := encodeRecallRequest(fullRequest)
		change(req)
		_, err := wire.Recall(t.Context(), req)
		var got *shared.FieldError
		if err = fromStatus(t.Context(), err); !errors.As(err, &got) || got.Field != field ||
			!strings.Contains(got.Problem, "42") {
			t.Errorf("%s: got %v", field, err)
		}
	}
	d := decoder{}
	event := encodeEvent(fullEvent)
	event.Disposition = 99 // erasing what is to be kept cannot be undone
	if d.event(event); d.err == nil {
		t.Error("an unknown disposition was taken for one that is known")
	}
}

func TestRecallRequest_HeldIsClamped(t *testing.T) {
	for us, want := range map[int64]time.Duration{-5: 0, 7: 7 * time.Microsecond, 1 << 62: 24 * time.Hour} {
		d := decoder{}
		if r := d.recallRequest(&recallv1.RecallRequest{Held: us}); d.err != nil || r.Held != want {
			t.Errorf("%d µs: %v, %v", us, r.Held, d.err)
		}
	}
}

func TestMaxWireBytes_ErrorNamesTheLimit(t *testing.T) {
	c := NewClient(t.Context(), dial(t, &echo{}))
	big := fullMessage
	big.Attachments = make([]shared.Attachment, shared.MaxAttachments)
	for i := range big.Attachments {
		big.Attachments[i].Key = strings.Repeat("x", shared.MaxAttachmentBytes)
	}
	batch := make([]shared.Message, 100) // 20 MB, each message within its own limits
	for i := range batch {
		batch[i] = big
	}
	if _, err := c.Index(t.Context(), batch); !errors.Is(err, shared.ErrInvalid) ||
		!strings.Contains(err.Error(), "16777216") {
		t.Errorf("got %v", err)
	}
}
