package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// gated holds every Index until it is let go, and counts those that it holds.
type gated struct {
	echo
	mu      sync.Mutex
	holding int
	bytes   int
	most    int // bytes held at once
	held    chan struct{}
	release chan struct{}
}

func (p *gated) Index(ctx context.Context, msgs []shared.Message) ([]shared.IndexResult, error) {
	size := 0
	for i := range msgs {
		for _, l := range msgs[i].Labels {
			size += len(l)
		}
		for _, a := range msgs[i].Attachments {
			size += len(a.Key)
		}
	}
	p.mu.Lock()
	p.holding++
	p.bytes += size
	p.most = max(p.most, p.bytes)
	p.mu.Unlock()
	p.held <- struct{}{}
	select {
	case <-p.release:
	case <-ctx.Done():
	}
	p.mu.Lock()
	p.holding--
	p.bytes -= size
	p.mu.Unlock()
	out := make([]shared.IndexResult, len(msgs))
	for i := range msgs {
		out[i] = shared.IndexResult{MessageID: msgs[i].ID, Status: shared.IndexAdded}
	}
	return out, ctx.Err()
}

func largeMessages(bytes int) []shared.Message {
	var batch []shared.Message
	for n := 0; n < bytes; n += 100 * 1000 {
		m := fullMessage
		m.ID = fmt.Sprint("m", n)
		m.Attachments = nil
		m.Attachments = attached(shared.MaxAttachments, 1000)
		batch = append(batch, m)
	}
	return batch
}

func TestAdmission_BoundsTheBytesOfLargeCalls(t *testing.T) {
	const calls, size = 40, 1 << 20
	p := &gated{held: make(chan struct{}, calls), release: make(chan struct{})}
	c := NewClient(t.Context(), dial(t, p))
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() {
			if _, err := c.Index(t.Context(), largeMessages(size)); err != nil {
				t.Error(err)
			}
		})
	}
	<-p.held
	for range calls { // one in for each that leaves
		p.release <- struct{}{}
	}
	wg.Wait()
	if limit := maxUnaryClient / largeUnary * (size + 100*1000); p.most > limit || p.most == 0 {
		t.Errorf("%d bytes of requests were decoded at once; at most %d", p.most, limit)
	}
}

func TestClient_SmallCallsByGRPC(t *testing.T) {
	p := &slow{entered: make(chan struct{}, 2*maxUnaryClient), release: make(chan struct{})}
	c := NewClient(t.Context(), dial(t, p))
	var wg sync.WaitGroup
	for range 2 * maxUnaryClient {
		wg.Go(func() {
			if _, err := c.Index(t.Context(), []shared.Message{fullMessage}); err != nil {
				t.Error(err)
			}
		})
	}
	for range maxUnaryClient { // they are under way at the same time
		<-p.entered
	}
	if _, err := c.Health(t.Context()); err != nil { // for which there is a stream left
		t.Error(err)
	}
	if n := len(p.entered); n > 0 {
		t.Errorf("%d calls more are under way than may be", n)
	}
	close(p.release)
	wg.Wait()
}

func TestAdmission_HostWithoutLimits(t *testing.T) {
	const calls, size = 20, 3 << 20
	p := &gated{held: make(chan struct{}, calls), release: make(chan struct{}, calls)}
	conn := dial(t, p)
	wire := recallv1.NewRecallServiceClient(conn)
	request := &recallv1.IndexRequest{Messages: mapSlice(largeMessages(size), encodeMessage)}
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() {
			if _, err := wire.Index(t.Context(), request); err != nil {
				t.Error(err)
			}
		})
	}
	<-p.held
	if _, err := recallv1.NewLifecycleServiceClient(dial(t, p)).Health(t.Context(),
		&recallv1.HealthRequest{}); err != nil {
		t.Errorf("health beside it: %v", err)
	}
	for range calls {
		p.release <- struct{}{}
	}
	wg.Wait()
	if limit := maxWorkingBytes / decodedFactor; p.most > limit || p.most == 0 {
		t.Errorf("%d bytes of requests were decoded at once; at most %d", p.most, limit)
	}
}

func TestAdmission_SmallServicesReadNoLargeRequest(t *testing.T) {
	conn := dial(t, &gated{})
	large := &recallv1.ActivateRequest{Steps: mapSlice(make([]StepPlan, 1<<20), encodeStepPlan)}
	_, err := recallv1.NewLifecycleServiceClient(conn).Activate(t.Context(), large)
	if err := fromStatus(t.Context(), err); !errors.Is(err, shared.ErrInvalid) ||
		!strings.Contains(err.Error(), fmt.Sprint(maxSmallBytes)) {
		t.Errorf("a million empty steps: %v", err)
	}
}

func TestAdmission_ManySmallElements(t *testing.T) {
	p := &gated{held: make(chan struct{}, 1), release: make(chan struct{})}
	wire := recallv1.NewRecallServiceClient(dial(t, p))
	request := &recallv1.IndexRequest{}
	for range 100_000 {
		request.Messages = append(request.Messages, &recallv1.Message{})
	}
	_, err := wire.Index(t.Context(), request)
	if err := fromStatus(t.Context(), err); !errors.Is(err, shared.ErrInvalid) ||
		!strings.Contains(err.Error(), fmt.Sprint(maxElements)) {
		t.Errorf("100,000 empty messages in %d bytes: %v", proto.Size(request), err)
	}
}

func TestAdmission_Weigh(t *testing.T) {
	a := newAdmission(MaxWireBytes, 1)
	elements := func(n int) []byte { return bytes.Repeat([]byte{1<<3 | 2, 0}, n) }
	for name, tc := range map[string]struct {
		method  string
		request []byte
		want    int64
	}{
		"no method with an answer": {"Health", nil, 0},
		"request alone":            {"Retry", elements(3), 6 * decodedFactor},
		"answer for each element":  {"Index", elements(3), 6*decodedFactor + 3<<10},
		"answer of any size":       {"Since", elements(3), 6*decodedFactor + 3<<20},
		"page of a list":           {"List", elements(3), 6*decodedFactor + 3<<20},
		"page of a ledger":         {"Ledger", elements(3), 6*decodedFactor + 3<<20},
		"both":                     {"Status", elements(3), 6*decodedFactor + maxRecordBytes + 3*4<<10},
		"as much as there is":      {"Recall", elements(maxElements), maxWorkingBytes},
		"cut short":                {"Index", append(elements(2), 1<<3|2, 9), 6*decodedFactor + 2<<10},
	} {
		if got, err := a.weigh(tc.method, tc.request); err != nil || got != tc.want {
			t.Errorf("%s: weight %d, %v; want %d", name, got, err, tc.want)
		}
	}
	if _, err := a.weigh("Recall", elements(maxElements+1)); status.Code(err) != codes.InvalidArgument {
		t.Errorf("one element more than may be: %v", err)
	}
}

func TestServerCodec_AtTheLimits(t *testing.T) {
	unmarshal := func(data []byte, into any) error {
		return serverCodec{}.Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, into)
	}
	const most = 100
	for size, ok := range map[int]bool{most: true, most + 1: false} {
		u := &undecoded{max: most}
		err := unmarshal(make([]byte, size), u)
		data, tooLarge := u.bytes()
		if err != nil || (tooLarge == nil) != ok || ok != (len(data) == size) {
			t.Errorf("%d bytes, read as they are: %v; %d bytes, %v", size, err, len(data), tooLarge)
		}
		if !ok && u.data != nil {
			t.Error("what is too large is kept")
		}
	}
	exact := protoBytes(t, maxSmallBytes-4) // and its tag and length
	if err := unmarshal(exact, &recallv1.StatusRequest{}); err != nil || len(exact) != maxSmallBytes {
		t.Errorf("%d bytes of another service: %v", len(exact), err)
	}
	if err := unmarshal(append(exact, 0), &recallv1.StatusRequest{}); err == nil ||
		!strings.Contains(err.Error(), fmt.Sprint("at most ", maxSmallBytes)) {
		t.Errorf("%d bytes of another service: %v", len(exact)+1, err)
	}
}

func TestAdmission_WaitsWithinItsContext(t *testing.T) {
	a := newAdmission(MaxWireBytes, 1)
	leave, err := a.enter(t.Context(), "Index", make([]byte, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	all, err := a.enter(t.Context(), "Index", protoBytes(t, maxWorkingBytes/decodedFactor))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.enter(ctx, "Index", protoBytes(t, 1000)); status.Code(err) != codes.Canceled {
		t.Errorf("%v", err)
	}
	all()
	leave, err = a.enter(t.Context(), "Index", protoBytes(t, 1000))
	if err != nil {
		t.Fatal(err)
	}
	leave()
}

// protoBytes is an encoded message of about that size.
func protoBytes(t *testing.T, size int) []byte {
	t.Helper()
	data, err := proto.Marshal(&recallv1.StatusRequest{Tenant: strings.Repeat("x", size)})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func mustMarshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
