package shared

import (
	"context"
	"errors"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/chat-recall/recall/shared/recallv1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// at is a time as the wire keeps it.
var at = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

var (
	fullMessage = Message{
		Tenant: "acme", ID: "m/1", Conversation: Conversation{Type: Chatroom, ID: "lobby"}, Sender: "ann", Type: Combine,
		SentAt: at, Attachments: []string{"https://files/a b"}, Labels: []string{"hold"},
	}
	fullActor = Actor{ID: "bob", Role: Owner}
	fullEvent = Event{
		Sequence: 7, Tenant: "acme", RecallID: "r1", Actor: fullActor, Ext: "{}", Reason: "wrong room", RecalledAt: at,
		Message: fullMessage, Attachments: []string{"https://files/a b"}, Rule: Rule{Name: "managers", File: "a.hcl", Line: 3},
		PolicyDigest: "ab", Steps: []string{StepHistory}, Attempt: 2,
		Silent: true, Tombstone: map[string]string{"zh-Hans": "{actor}撤回"}, Disposition: DispositionArchive, Retention: 36 * time.Hour,
	}
	fullRequest = RecallRequest{
		Tenant: "acme", MessageIDs: []string{"m/1"}, Actor: fullActor, Ext: "{}", Reason: "wrong room", RecallID: "r1",
		RequestedAt: at, Held: 1500 * time.Millisecond, ConversationLabels: []string{"hold"},
		Messages: []Message{fullMessage},
	}
	fullSince = SinceRequest{Tenant: "acme", Conversations: []Conversation{{Type: Group, ID: "g"}}, After: 3, Limit: 9}
	fullEntry = LedgerEntry{Event: fullEvent, Steps: []StepRecord{
		{Step: StepHistory, Outcome: OutcomeFailed, Attempts: 2, Error: "disk", ChangedAt: at},
	}}
	fullResult = RecallResult{
		MessageID: "m/1", Status: Denied, Code: CodeRateLimited, Rule: fullEvent.Rule, RecallID: "r0", RecalledBy: fullActor,
		RecalledAt: at, Until: at, RetryAt: at,
	}
	fullDiagnostics = Diagnostics{{
		Severity: SeverityWarning, Summary: "s", Detail: "d", File: "f", Line: 1, Column: 2, Source: "src",
	}}
	fullHealth = Health{State: StateQuiesced, Reason: "done", Since: at, Rules: RulesState{
		Digest: "ab", Paths: []string{"/rules.d"}, LoadedAt: at, Warnings: fullDiagnostics,
		Refused: fullDiagnostics, Fallback: true,
	}, Index: fullIndex, Waiting: 3, Done: 4}
	fullDescription = Description{
		Name: "recall-plugin", Version: "1.2.3", ProtocolVersions: []int{1, 2}, IndexFormat: 4,
		Capabilities: []string{"tomorrow"},
	}
	fullIndex = IndexIdentity{ID: "ab12", Epoch: "cd34", Version: 9}
)

// echo answers with full values and keeps what it was asked; err, if set, is the answer of every call.
type echo struct {
	err   error
	asked []any
}

func (p *echo) Index(_ context.Context, m []Message) ([]IndexResult, error) {
	p.asked = []any{m}
	return []IndexResult{{MessageID: "m/1", Status: IndexConflict}}, p.err
}
func (p *echo) Recall(_ context.Context, r RecallRequest) ([]RecallResult, error) {
	p.asked = []any{r}
	return []RecallResult{fullResult}, p.err
}
func (p *echo) Check(_ context.Context, r RecallRequest) ([]RecallResult, error) {
	p.asked = []any{r}
	return []RecallResult{fullResult}, p.err
}
func (p *echo) Status(_ context.Context, tenant string, ids []string) ([]MessageStatus, error) {
	p.asked = []any{tenant, ids}
	return []MessageStatus{{MessageID: "m/1", State: MessageRecalled, RecallID: "r1", RecalledAt: at}}, p.err
}
func (p *echo) Since(_ context.Context, r SinceRequest) (SincePage, error) {
	p.asked = []any{r}
	return SincePage{Events: []Event{fullEvent}, Next: 8, More: true}, p.err
}
func (p *echo) Ledger(_ context.Context, tenant, id string) (Ledger, error) {
	p.asked = []any{tenant, id}
	return Ledger{Tenant: tenant, RecallID: id, Entries: []LedgerEntry{fullEntry}}, p.err
}
func (p *echo) Events(_ context.Context, handle func(Event, Settler)) error {
	handle(fullEvent, nil)
	return p.err
}
func (p *echo) Settle(_ context.Context, sequence uint64, step string, o Outcome, cause string) error {
	p.asked = []any{sequence, step, o, cause}
	return p.err
}
func (p *echo) Describe(context.Context) (Description, error) {
	return fullDescription, p.err
}
func (p *echo) Prepare(_ context.Context, file string) (Diagnostics, error) {
	p.asked = []any{file}
	return fullDiagnostics, p.err
}
func (p *echo) Activate(_ context.Context, steps []string) error {
	p.asked = []any{steps}
	return p.err
}
func (p *echo) Flush(context.Context) error { return p.err }
func (p *echo) Expect(_ context.Context, id IndexIdentity) error {
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
func (p *echo) Reload(context.Context) (Diagnostics, error) { return fullDiagnostics, p.err }
func (p *echo) Metrics(context.Context) ([]Metric, error) {
	return []Metric{{Name: "recalls_total", Value: 1.5}}, p.err
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
	}
}

func TestEveryCallCarriesEveryFieldBothWays(t *testing.T) {
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
		"Index":  {func() (any, error) { return c.Index(ctx, []Message{fullMessage}) }, []any{[]Message{fullMessage}}, []IndexResult{{"m/1", IndexConflict}}},
		"Recall": {func() (any, error) { return c.Recall(ctx, fullRequest) }, []any{fullRequest}, []RecallResult{fullResult}},
		"Check":  {func() (any, error) { return c.Check(ctx, fullRequest) }, []any{fullRequest}, []RecallResult{fullResult}},
		"Status": {func() (any, error) { return c.Status(ctx, "acme", []string{"m/1"}) }, []any{"acme", []string{"m/1"}},
			[]MessageStatus{{"m/1", MessageRecalled, "r1", at}}},
		"Since": {func() (any, error) { return c.Since(ctx, fullSince) }, []any{fullSince}, SincePage{[]Event{fullEvent}, 8, true}},
		"Ledger": {func() (any, error) { return c.Ledger(ctx, "acme", "r1") }, []any{"acme", "r1"},
			Ledger{"acme", "r1", []LedgerEntry{fullEntry}}},
		"Settle": {func() (any, error) {
			return "settled", NewSettler(c, 7).Settle(ctx, StepHistory, OutcomeFailed, errors.New("disk"))
		}, []any{uint64(7), StepHistory, OutcomeFailed, "disk"}, "settled"},
		"Describe": {func() (any, error) {
			d, err := c.Describe(ctx)
			d.Capabilities = slices.DeleteFunc(d.Capabilities, func(c string) bool { return c == CapabilityLane })
			return d, err
		}, nil, fullDescription},
		"Prepare":  {func() (any, error) { return c.Prepare(ctx, "/f") }, []any{"/f"}, fullDiagnostics},
		"Activate": {func() (any, error) { return "active", c.Activate(ctx, []string{StepNotify}) }, []any{[]string{StepNotify}}, "active"},
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
		"Metrics": {func() (any, error) { return c.Metrics(ctx) }, nil, []Metric{{"recalls_total", 1.5}}},
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
			impl.err = ErrOverloaded
			if _, err := tc.call(); !errors.Is(err, ErrOverloaded) {
				t.Errorf("the plugin's error came back as %v", err)
			}
		})
	}
}

func TestAnEventOfAPluginFromBeforeDispositionsIsErased(t *testing.T) {
	wire := encodeEvent(fullEvent)
	wire.Disposition = recallv1.Disposition_DISPOSITION_UNSPECIFIED
	d := decoder{}
	if e := d.event(wire); d.err != nil || e.Disposition != DispositionErase {
		t.Errorf("got %q, %v", e.Disposition, d.err)
	}
	wire.Disposition = 99 // of a newer one: erasing what was to be kept cannot be undone
	if d.event(wire); d.err == nil {
		t.Error("an unknown disposition was taken for one that is known")
	}
}

func TestANoticeTellsAClientWhatToShow(t *testing.T) {
	n := fullEvent.Notice(false)
	if !n.Silent || !reflect.DeepEqual(n.Tombstone, fullEvent.Tombstone) || n.Message != nil {
		t.Errorf("got %+v", n)
	}
}

func TestEventsReachTheHandlerAndEndWithTheStream(t *testing.T) {
	c := NewClient(t.Context(), dial(t, &echo{err: ErrUnavailable}))
	got := make(chan Event, 1)
	err := c.Events(t.Context(), func(e Event, s Settler) {
		if s == nil {
			t.Error("no settler")
		}
		got <- e
	})
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("error %v", err)
	}
	if e := <-got; !reflect.DeepEqual(e, fullEvent) {
		t.Errorf("event\n got %+v\nwant %+v", e, fullEvent)
	}
}

func TestAnErrorKeepsItsMeaningAcrossTheWire(t *testing.T) {
	impl := &echo{}
	c := NewClient(t.Context(), dial(t, impl))
	for _, sentinel := range []error{ErrUnavailable, ErrOverloaded, ErrUnimplemented} {
		impl.err = sentinel
		if _, err := c.Metrics(t.Context()); !errors.Is(err, sentinel) {
			t.Errorf("%v came back as %v", sentinel, err)
		}
	}
	impl.err = Invalidf("messages[3].sent_at", "is in the future")
	_, err := c.Metrics(t.Context())
	var field *FieldError
	if !errors.As(err, &field) || !errors.Is(err, ErrInvalid) || *field != *impl.err.(*FieldError) {
		t.Errorf("field error came back as %#v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Metrics(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the caller's own cancel came back as %v", err)
	}
}

func TestAnOlderPluginIsToldByUnimplemented(t *testing.T) {
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
	if _, err := NewClient(t.Context(), conn).Metrics(t.Context()); !errors.Is(err, ErrUnimplemented) {
		t.Errorf("got %v", err)
	}
}

func TestAnUnknownEnumOfANewerPeerIsRefusedByName(t *testing.T) {
	wire := recallv1.NewRecallServiceClient(dial(t, &echo{}))
	good := encodeMessage(fullMessage)
	for field, change := range map[string]func(*recallv1.IndexRequest){
		"messages[1].type":              func(r *recallv1.IndexRequest) { r.Messages[1].Type = 99 },
		"messages[0].conversation.type": func(r *recallv1.IndexRequest) { r.Messages[0].Conversation.Type = 99 },
	} {
		req := &recallv1.IndexRequest{Messages: []*recallv1.Message{
			{Type: good.Type, Conversation: &recallv1.Conversation{Type: good.Conversation.Type}}, encodeMessage(fullMessage),
		}}
		change(req)
		_, err := wire.Index(t.Context(), req)
		var got *FieldError
		if err = fromStatus(t.Context(), err); !errors.As(err, &got) || got.Field != field || !strings.Contains(got.Problem, "99") {
			t.Errorf("%s: got %v", field, err)
		}
	}
	req := encodeRecallRequest(fullRequest)
	req.Actor.Role = 42
	_, err := wire.Recall(t.Context(), req)
	var got *FieldError
	if err = fromStatus(t.Context(), err); !errors.As(err, &got) || got.Field != "actor.role" {
		t.Errorf("got %v", err)
	}
}

// large is a plugin with a ledger larger than a message on the wire.
type large struct{ echo }

func (p *large) Ledger(_ context.Context, tenant, id string) (Ledger, error) {
	entry := fullEntry
	entry.Event.Attachments = make([]string, MaxAttachments)
	for i := range entry.Event.Attachments {
		entry.Event.Attachments[i] = strings.Repeat("x", MaxAttachmentBytes)
	}
	l := Ledger{Tenant: tenant, RecallID: id}
	for range MaxRecallIDs {
		l.Entries = append(l.Entries, entry)
	}
	return l, nil
}

func TestALedgerLargerThanTheWiresLimitArrives(t *testing.T) {
	c := NewClient(t.Context(), dial(t, &large{}))
	l, err := c.Ledger(t.Context(), "acme", "r1")
	if err != nil || len(l.Entries) != MaxRecallIDs || len(l.Entries[99].Event.Attachments) != MaxAttachments {
		t.Errorf("%d entries, %v", len(l.Entries), err)
	}
}

// paged is a plugin that knows attempts, and has a ledger in pages.
type paged struct {
	echo
	pages   []LedgerRequest
	settled []Settlement
}

func (p *paged) LedgerPage(_ context.Context, r LedgerRequest) (LedgerPage, error) {
	p.pages = append(p.pages, r)
	return LedgerPage{Entries: []LedgerEntry{fullEntry}, Next: r.After + 1, More: r.After < 2}, p.err
}

func (p *paged) SettleAttempt(_ context.Context, s Settlement) error {
	p.settled = append(p.settled, s)
	return p.err
}

func TestClient_Ledger(t *testing.T) {
	impl := &paged{}
	conn := dial(t, impl)
	c := NewClient(t.Context(), conn)
	t.Run("is read page by page", func(t *testing.T) {
		l, err := c.Ledger(t.Context(), "acme", "r1")
		if err != nil || !reflect.DeepEqual(l, Ledger{"acme", "r1", []LedgerEntry{fullEntry, fullEntry, fullEntry}}) {
			t.Errorf("got %+v, %v", l, err)
		}
		var want []LedgerRequest
		for after := range uint64(3) {
			want = append(want, LedgerRequest{"acme", "r1", after, MaxLedgerLimit})
		}
		if !reflect.DeepEqual(impl.pages, want) {
			t.Errorf("asked for %+v", impl.pages)
		}
	})
	t.Run("one page", func(t *testing.T) {
		page, err := c.LedgerPage(t.Context(), LedgerRequest{"acme", "r1", 1, 5})
		if err != nil || !reflect.DeepEqual(page, LedgerPage{[]LedgerEntry{fullEntry}, 2, true}) {
			t.Errorf("got %+v, %v", page, err)
		}
		if _, err := c.LedgerPage(t.Context(), LedgerRequest{"acme", "r1", 1, MaxLedgerLimit + 1}); !errors.Is(err,
			ErrInvalid) {
			t.Errorf("over the limit: %v", err)
		}
	})
	t.Run("a host that knows no pages gets them all", func(t *testing.T) {
		stream, err := recallv1.NewRecallServiceClient(conn).Ledger(t.Context(),
			&recallv1.LedgerRequest{Tenant: "acme", RecallId: "r1"})
		n := 0
		for err == nil {
			if _, err = stream.Recv(); err == nil {
				n++
			}
		}
		if !errors.Is(err, io.EOF) || n != 3 {
			t.Errorf("%d pages, %v", n, err)
		}
	})
}

func TestEventSettler_Attempt(t *testing.T) {
	impl := &paged{}
	c := NewClient(t.Context(), dial(t, impl))
	if err := EventSettler(c, fullEvent).Settle(t.Context(), StepHistory, OutcomeFailed, errors.New("disk")); err != nil {
		t.Fatal(err)
	}
	if err := NewSettler(c, 7).Settle(t.Context(), StepHistory, OutcomeDone, nil); err != nil {
		t.Fatal(err)
	}
	want := []Settlement{{7, StepHistory, 2, OutcomeFailed, "disk"}, {7, StepHistory, 0, OutcomeDone, ""}}
	if !reflect.DeepEqual(impl.settled, want) {
		t.Errorf("got %+v", impl.settled)
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

// newer serves an event with an enum value of a later version, then one that is known.
type newer struct {
	recallv1.UnimplementedRecallServiceServer
	busy    atomic.Bool // it has not refused to settle yet
	settled chan *recallv1.SettleRequest
}

func (n *newer) Events(_ *recallv1.EventsRequest, stream recallv1.RecallService_EventsServer) error {
	odd := encodeEvent(fullEvent)
	odd.Message.Type = 99
	if err := stream.Send(odd); err != nil {
		return err
	}
	if err := stream.Send(encodeEvent(fullEvent)); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (n *newer) Settle(_ context.Context, req *recallv1.SettleRequest) (*recallv1.SettleResponse, error) {
	if n.busy.CompareAndSwap(true, false) {
		return nil, status.Error(codes.ResourceExhausted, "too much is waiting")
	}
	n.settled <- req
	return &recallv1.SettleResponse{}, nil
}

func TestAnEventThatIsNotUnderstoodHoldsUpNoOther(t *testing.T) {
	impl := &newer{settled: make(chan *recallv1.SettleRequest, 1)}
	conn := dialServer(t, func(s *grpc.Server) { recallv1.RegisterRecallServiceServer(s, impl) })
	impl.busy.Store(true)
	handled := make(chan Event, 2)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- NewClient(t.Context(), conn).Events(ctx, func(e Event, _ Settler) { handled <- e })
	}()
	<-handled
	if s := <-impl.settled; s.Outcome != recallv1.Outcome_OUTCOME_FAILED || !strings.Contains(s.Error, "message.type") {
		t.Errorf("settled as %v", s)
	}
	cancel()
	if <-ended; len(handled) > 0 {
		t.Error("the event that cannot be read was handled")
	}
}

func TestAMessageOverTheWiresLimitNamesTheLimit(t *testing.T) {
	c := NewClient(t.Context(), dial(t, &echo{}))
	big := fullMessage
	big.Attachments = make([]string, MaxAttachments)
	for i := range big.Attachments {
		big.Attachments[i] = strings.Repeat("x", MaxAttachmentBytes)
	}
	batch := make([]Message, 100) // 20 MB, each message within its own limits
	for i := range batch {
		batch[i] = big
	}
	if _, err := c.Index(t.Context(), batch); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "16777216") {
		t.Errorf("got %v", err)
	}
}
