package engine

import (
	"context"
	"errors"
	"testing"

	"github.com/chat-recall/recall/shared"
)

func TestThen_AloneAnswersBeforeItReturns(t *testing.T) {
	r := newActive(t, "")
	var indexed []shared.IndexResult
	r.IndexThen(t.Context(), []shared.Message{r.message("m")}, true, func(results []shared.IndexResult, err error) {
		if indexed = results; err != nil {
			t.Error(err)
		}
	})
	if len(indexed) != 1 || indexed[0].Status != shared.IndexAdded {
		t.Fatalf("%+v", indexed)
	}
	var recalled []shared.RecallResult
	r.RecallThen(t.Context(), request("r", "m"), true, func(results []shared.RecallResult, err error) {
		if recalled = results; err != nil {
			t.Error(err)
		}
	})
	if len(recalled) != 1 || recalled[0].Status != shared.StatusRecalled {
		t.Fatalf("%+v", recalled)
	}
}

func TestThen_AnswersOnceWhateverIsWrong(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	standby, active := newStandby(t, ""), newActive(t, "")
	for name, c := range map[string]struct {
		r    *rig
		ctx  context.Context
		id   string
		want error
	}{
		"standby":       {standby, t.Context(), "m", shared.ErrUnavailable},
		"invalid":       {active, t.Context(), "", shared.ErrInvalid},
		"ended context": {active, gone, "m", context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			answers := 0
			answer := func(err error) {
				if answers++; !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
			}
			m := active.message("m")
			m.ID = c.id
			c.r.IndexThen(c.ctx, []shared.Message{m}, true, func(results []shared.IndexResult, err error) {
				if err == nil && results[0].Status == shared.IndexInvalid {
					err = shared.ErrInvalid
				}
				answer(err)
			})
			c.r.RecallThen(c.ctx, request("r", c.id), true, func(_ []shared.RecallResult, err error) { answer(err) })
			if answers != 2 {
				t.Errorf("%d answers to 2 calls", answers)
			}
		})
	}
	if err := active.Quiesce(t.Context()); err != nil { // it waits for calls that were not answered
		t.Error(err)
	}
}
