package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// batching is a plugin that settles in batches, and refuses the steps of event 13.
type batching struct {
	echo
	batches [][]Settlement
}

func (p *batching) Settle(_ context.Context, all []Settlement) ([]error, error) {
	p.batches = append(p.batches, all)
	errs := make([]error, len(all))
	for i, s := range all {
		if s.Sequence == 13 {
			errs[i] = shared.Invalidf("sequence", "there is no event 13")
		}
	}
	return errs, p.err
}

func settlements(sequences ...uint64) []Settlement {
	return mapSlice(sequences, func(seq uint64) Settlement {
		return Settlement{Sequence: seq, Key: fullEvent.Key(), Step: shared.StepHistory, Attempt: 2,
			Outcome: shared.OutcomeFailed, Error: "disk"}
	})
}

func TestClient_Settle(t *testing.T) {
	impl := &batching{}
	conn := dial(t, impl)
	c := NewClient(t.Context(), conn)
	t.Run("carries every field, and a refusal for one alone", func(t *testing.T) {
		all := settlements(12, 13, 14)
		full(t, "Settle request", reflect.ValueOf(all))
		errs, err := c.Settle(t.Context(), all)
		if err != nil || len(errs) != 3 || errs[0] != nil || errs[2] != nil {
			t.Fatalf("got %v, %v", errs, err)
		}
		var refused *shared.FieldError
		if !errors.As(errs[1], &refused) || refused.Field != "sequence" {
			t.Errorf("the refused one: %v", errs[1])
		}
		if !reflect.DeepEqual(impl.batches, [][]Settlement{all}) {
			t.Errorf("the plugin was asked for %+v", impl.batches)
		}
	})
	t.Run("an error text that is no UTF-8 harms no other", func(t *testing.T) {
		all := settlements(1, 2)
		all[0].Error = "\xff"
		if errs, err := c.Settle(t.Context(), all); err != nil || errors.Join(errs...) != nil {
			t.Errorf("got %v, %v", errs, err)
		}
	})
	t.Run("over the limit", func(t *testing.T) {
		impl.batches = nil
		over := make([]Settlement, MaxSettlements+1)
		wire := &recallv1.SettleRequest{Settlements: mapSlice(over, encodeSettlement)}
		_, remote := recallv1.NewRecallServiceClient(conn).Settle(t.Context(), wire)
		_, local := c.Settle(t.Context(), over)
		for side, err := range map[string]error{"client": local, "plugin": fromStatus(t.Context(), remote)} {
			var f *shared.FieldError
			if !errors.As(err, &f) || f.Field != "settlements" || !strings.Contains(f.Problem, "513") ||
				!strings.Contains(f.Problem, "512") {
				t.Errorf("%s: %v", side, err)
			}
		}
		if len(impl.batches) > 0 {
			t.Error("it reached the plugin")
		}
	})
	t.Run("an outcome of a newer host is refused alone", func(t *testing.T) {
		impl.batches = nil
		wire := &recallv1.SettleRequest{Settlements: mapSlice(settlements(1, 2, 3), encodeSettlement)}
		wire.Settlements[1].Outcome = 99
		resp, err := recallv1.NewRecallServiceClient(conn).Settle(t.Context(), wire)
		if err != nil || len(resp.Statuses) != 3 || len(resp.Statuses[0])+len(resp.Statuses[2]) > 0 {
			t.Fatalf("got %v, %v", resp, err)
		}
		var f *shared.FieldError
		if err := fromStatus(t.Context(), unmarshalStatus(resp.Statuses[1])); !errors.As(err, &f) || f.Field != "outcome" {
			t.Errorf("got %v", err)
		}
		if want := [][]Settlement{settlements(1, 3)}; !reflect.DeepEqual(impl.batches, want) {
			t.Errorf("settled were %+v", impl.batches)
		}
	})
	t.Run("an error of the call", func(t *testing.T) {
		impl.err = shared.ErrOverloaded
		defer func() { impl.err = nil }()
		if errs, err := c.Settle(t.Context(), settlements(1)); !errors.Is(err, shared.ErrOverloaded) || errs != nil {
			t.Errorf("got %v, %v", errs, err)
		}
	})
}

// terse answers one settlement, however many there are.
type terse struct{ echo }

func (p *terse) Settle(context.Context, []Settlement) ([]error, error) {
	return make([]error, 1), p.err
}

func TestServer_SettleChecksTheAnswer(t *testing.T) {
	impl := &terse{}
	c := NewClient(t.Context(), dial(t, impl))
	_, err := c.Settle(t.Context(), settlements(1, 2))
	if want := "the plugin has 1 answers for 2 settlements"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}
	impl.err = shared.ErrOverloaded
	if _, err := c.Settle(t.Context(), settlements(1, 2)); !errors.Is(err, shared.ErrOverloaded) {
		t.Errorf("an error of the call came back as %v", err)
	}
}

// lying answers Settle with these statuses.
type lying struct {
	recallv1.UnimplementedRecallServiceServer
	statuses [][]byte
}

func (p *lying) Settle(context.Context, *recallv1.SettleRequest) (*recallv1.SettleResponse, error) {
	return &recallv1.SettleResponse{Statuses: p.statuses}, nil
}

func TestClient_SettleChecksTheAnswer(t *testing.T) {
	impl := &lying{}
	conn := dialServer(t, func(s *grpc.Server) { recallv1.RegisterRecallServiceServer(s, impl) })
	c := NewClient(t.Context(), conn)
	for words, statuses := range map[string][][]byte{
		"1 statuses for 2 settlements": {{}},
		"3 statuses for 2 settlements": {{}, {}, {}},
		fmt.Sprintf("statuses[1] is %d bytes long", maxAnswerTextBytes+1): {{}, bytes.Repeat([]byte("x"),
			maxAnswerTextBytes+1)},
	} {
		impl.statuses = statuses
		errs, err := c.Settle(t.Context(), settlements(1, 2))
		if err == nil || errs != nil || !strings.HasPrefix(err.Error(), "answer of the plugin: ") ||
			!strings.Contains(err.Error(), words) {
			t.Errorf("got %v, %v, want %q", errs, err, words)
		}
	}
	for name, status := range map[string][]byte{
		"no status": []byte("\xff\xff"), "of the largest size": bytes.Repeat([]byte{0xff}, maxAnswerTextBytes),
	} {
		impl.statuses = [][]byte{{}, status} // recorded or not, ask again
		errs, err := c.Settle(t.Context(), settlements(1, 2))
		if err != nil || errs[0] != nil || errs[1] == nil || errors.Is(errs[1], shared.ErrInvalid) {
			t.Errorf("a status that cannot be read, %s: %.200v, %.200v", name, errs, err)
		}
	}
}
