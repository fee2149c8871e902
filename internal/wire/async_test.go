package wire

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// async makes an AsyncPlugin of any.
type async struct{ Plugin }

func (p async) IndexThen(ctx context.Context, m []shared.Message, _ bool, then func([]shared.IndexResult, error)) {
	go func() { then(p.Index(ctx, m)) }()
}

func (p async) RecallThen(ctx context.Context, r shared.RecallRequest, _ bool,
	then func([]shared.RecallResult, error)) {
	then(p.Recall(ctx, r))
}

// committing is an AsyncPlugin whose calls wait for a commit of the test.
type committing struct {
	echo
	begun    chan begun
	judging  chan struct{} // RecallThen takes until it gets something
	statuses chan struct{} // Status likewise; nil: it answers at once
}

type begun struct {
	alone  bool
	commit func(error)
}

func newCommitting() *committing {
	return &committing{begun: make(chan begun, 10_000), judging: make(chan struct{})}
}

func (p *committing) IndexThen(_ context.Context, m []shared.Message, alone bool,
	then func([]shared.IndexResult, error)) {
	p.begun <- begun{alone, func(err error) {
		then([]shared.IndexResult{{MessageID: m[0].ID, Status: shared.IndexAdded}}, err)
	}}
}

func (p *committing) RecallThen(_ context.Context, _ shared.RecallRequest, alone bool,
	then func([]shared.RecallResult, error)) {
	if !alone {
		<-p.judging
	}
	p.begun <- begun{alone, func(err error) { then([]shared.RecallResult{fullResult}, err) }}
}

func (p *committing) Status(ctx context.Context, tenant string, ids []string) ([]shared.MessageStatus, error) {
	if p.statuses != nil {
		<-p.statuses
	}
	return p.echo.Status(ctx, tenant, ids)
}

// laneOf serves p on a lane.
func laneOf(t *testing.T, p Plugin) (s *recallServer, send func(frames ...[]byte), next func() laneFrame) {
	s = newRecallServer(p)
	host := serveLane(t, s)
	in := &laneReader{conn: host, limit: maxLaneAnswer}
	return s, func(frames ...[]byte) { write(t, host, slices.Concat(frames...)) },
		func() laneFrame { return nextFrame(t, in) }
}

// Frames of calls.
func indexFrame(t *testing.T, id uint64) []byte {
	return frameOf(t, laneFrame{kind: laneCall, method: 1, id: id},
		&recallv1.IndexRequest{Messages: []*recallv1.Message{encodeMessage(fullMessage)}})
}

func recallFrame(t *testing.T, id uint64) []byte {
	return frameOf(t, laneFrame{kind: laneCall, method: 2, id: id}, encodeRecallRequest(fullRequest))
}

func statusFrame(t *testing.T, id uint64) []byte {
	return frameOf(t, laneFrame{kind: laneCall, method: 4, id: id},
		&recallv1.StatusRequest{Tenant: "acme", MessageIds: []string{"m/1"}})
}

func TestAsync_CallsTakeNoGoroutine(t *testing.T) {
	const calls = 2000
	p := newCommitting()
	_, send, next := laneOf(t, p)
	before := runtime.NumGoroutine()
	var commits []func(error)
	for id := range uint64(calls) {
		send(indexFrame(t, id))
	}
	for range calls {
		commits = append(commits, (<-p.begun).commit)
	}
	if n := runtime.NumGoroutine() - before; n > 10 {
		t.Errorf("%d goroutines for %d calls", n, calls)
	}
	go func() {
		for i, commit := range commits {
			if i%3 == 0 {
				commit(shared.ErrOverloaded)
			} else {
				commit(nil)
			}
		}
	}()
	seen := make([]bool, calls)
	for range calls {
		f := next()
		if seen[f.id] || (f.kind == laneError) != (f.id%3 == 0) {
			t.Fatalf("call %d is answered by kind %d, before: %v", f.id, f.kind, seen[f.id])
		}
		seen[f.id] = true
	}
}

func TestAsync_Alone(t *testing.T) {
	p := newCommitting()
	_, send, next := laneOf(t, p)
	for name, frame := range map[string]func(*testing.T, uint64) []byte{
		"index": indexFrame, "recall": recallFrame,
	} {
		t.Run(name, func(t *testing.T) {
			send(frame(t, 1))
			first := <-p.begun
			if !first.alone {
				t.Error("a call that is alone is not said to be")
			}
			send(frame(t, 2))
			if name == "recall" {
				p.judging <- struct{}{}
			}
			second := <-p.begun
			if second.alone {
				t.Error("alone is true for a second call")
			}
			first.commit(nil)
			second.commit(nil)
			next()
			next()
			send(frame(t, 3), frame(t, 4))
			if name == "recall" {
				p.judging <- struct{}{}
				p.judging <- struct{}{}
			}
			for _, c := range []begun{<-p.begun, <-p.begun} {
				if c.alone {
					t.Error("alone is true for one of two calls that arrived together")
				}
				c.commit(nil)
				next()
			}
		})
	}
}

func TestAsync_CallThatTakesLongHoldsUpNoOther(t *testing.T) {
	t.Run("recall that is not alone", func(t *testing.T) {
		p := newCommitting()
		_, send, next := laneOf(t, p)
		send(indexFrame(t, 1))
		index := <-p.begun
		send(recallFrame(t, 2)) // is judged until
		send(indexFrame(t, 3))
		(<-p.begun).commit(nil)
		if f := next(); f.id != 3 {
			t.Errorf("got the answer to call %d", f.id)
		}
		p.judging <- struct{}{}
		(<-p.begun).commit(nil)
		index.commit(nil)
		next()
		next()
	})
	t.Run("status that is not alone", func(t *testing.T) {
		p := newCommitting()
		p.statuses = make(chan struct{})
		_, send, next := laneOf(t, p)
		send(indexFrame(t, 1))
		index := <-p.begun
		send(statusFrame(t, 2), indexFrame(t, 3))
		(<-p.begun).commit(nil)
		if f := next(); f.id != 3 {
			t.Errorf("got the answer to call %d", f.id)
		}
		p.statuses <- struct{}{}
		index.commit(nil)
		next()
		next()
	})
}

func TestAsync_WaitsForMemory(t *testing.T) {
	p := newCommitting()
	s, send, next := laneOf(t, p)
	if !s.admission.working.TryAcquire(maxWorkingBytes) {
		t.Fatal("it is in use")
	}
	send(indexFrame(t, 1), indexFrame(t, 2))
	send(frameOf(t, laneFrame{kind: laneCancel, id: 1}, nil)) // which is read meanwhile
	if f := next(); f.id != 1 || status.Code(laneStatus(f.payload)) != codes.Canceled {
		t.Errorf("got kind %d for call %d", f.kind, f.id)
	}
	if len(p.begun) > 0 {
		t.Error("a call began without memory")
	}
	s.admission.working.Release(maxWorkingBytes)
	(<-p.begun).commit(nil)
	if f := next(); f.id != 2 || f.kind != laneAnswer {
		t.Errorf("got kind %d for call %d", f.kind, f.id)
	}
}

func TestAsync_RequestThatIsRefused(t *testing.T) {
	_, send, next := laneOf(t, newCommitting())
	request := encodeRecallRequest(fullRequest)
	request.Targets[0].Role = 99
	send(frameOf(t, laneFrame{kind: laneCall, method: 2}, request))
	var field *shared.FieldError
	if err := fromStatus(t.Context(), laneStatus(next().payload)); !errors.As(err, &field) ||
		field.Field != "targets[0].role" {
		t.Errorf("got %v", err)
	}
	for _, method := range []byte{1, 2, 5} {
		send(frameOf(t, laneFrame{kind: laneCall, method: method}, rawMessage(0x0a, 9)))
		if err := laneStatus(next().payload); status.Code(err) != codes.Internal {
			t.Errorf("%s: a request that cannot be read: %v", laneMethods[method].name, err)
		}
	}
}

func TestAsync_LargeRequestIsCarriedOutBesideTheReader(t *testing.T) {
	p := newCommitting()
	_, send, next := laneOf(t, p)
	for size, alone := range map[int]bool{maxInlineBytes: true, maxInlineBytes + 1: false} {
		m := fullMessage
		request := func(ref int) *recallv1.IndexRequest {
			m.Ref = strings.Repeat("x", ref)
			return &recallv1.IndexRequest{Messages: []*recallv1.Message{encodeMessage(m)}}
		}
		sized := request(2*size - proto.Size(request(size)))
		if n := proto.Size(sized); n != size {
			t.Fatalf("the request has %d bytes, want %d", n, size)
		}
		send(frameOf(t, laneFrame{kind: laneCall, method: 1, id: 1}, sized))
		call := <-p.begun
		if call.alone != alone { // only the reader knows that a call is
			t.Errorf("alone is %v for a request of %d bytes", call.alone, size)
		}
		call.commit(nil)
		next()
	}
}
