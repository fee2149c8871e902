package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/chat-recall/recall/shared"
)

// stepLoad is the load of a worker or a webhook that carries out a fixed number of steps.
type stepLoad struct {
	chat  *sidecarChat
	role  shared.Role // whose recalls have the step
	drain func(ctx context.Context, n int) ([]time.Duration, error)
}

// stepsPerSecond is how many steps a run of one second has.
const stepsPerSecond = 4000

// run recalls messages, and then measures how their steps are carried out.
func (l *stepLoad) run(ctx context.Context, d time.Duration) (sample, error) {
	n := max(maxTake, int(stepsPerSecond*d.Seconds()))
	gate := make(chan struct{})
	l.chat.gate.Store(&gate)
	l.chat.hooked.Store(0)
	if err := l.recall(ctx, n); err != nil {
		return sample{}, fmt.Errorf("prepare: %w", err)
	}
	return l.chat.json.load(1, 1, nil).measure(ctx, func() ([]time.Duration, int, error) {
		close(gate)
		took, err := l.drain(ctx, n)
		return took, n, err
	})
}

// recall recalls n messages, so that their steps are open.
func (l *stepLoad) recall(ctx context.Context, n int) error {
	msgs, err := l.chat.json.indexed(ctx, n)
	if err != nil {
		return err
	}
	for from := 0; from < n; from += shared.MaxRecallTargets {
		req := recallRequest(&msgs[from], ids.Add(1), l.role)
		req.Targets = nil
		for _, m := range msgs[from:min(from+shared.MaxRecallTargets, n)] {
			req.Targets = append(req.Targets, shared.Target{MessageID: m.ID, Conversation: m.Conversation, Role: l.role})
		}
		results, err := l.chat.client.Recall(ctx, req)
		for _, r := range results {
			err = errors.Join(err, expect(nil, r.Status, shared.StatusRecalled))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// taking is the load of one worker that takes up to most deliveries a call and settles them with its next call.
func (c *sidecarChat) taking(most int) *stepLoad {
	return &stepLoad{c, shared.RoleSystem, func(ctx context.Context, n int) (took []time.Duration, err error) {
		next := take{Steps: []string{shared.StepNotify}, Max: most, Wait: "10s"}
		for settled := 0; settled < n; {
			var got taken
			one, err := timed(func() (err error) {
				got, err = c.client.take(ctx, next)
				return err
			})
			if err != nil {
				return nil, err
			}
			if len(got.Deliveries) == 0 || len(got.Late) > 0 {
				return nil, fmt.Errorf("%d of %d steps: %d deliveries, late %q", settled, n, len(got.Deliveries), got.Late)
			}
			took, next.Settle = append(took, one), nil
			for _, d := range got.Deliveries {
				next.Settle = append(next.Settle, verdict{ID: d.ID, Outcome: shared.OutcomeDone})
			}
			settled += len(got.Deliveries)
		}
		late, err := c.client.settle(ctx, next.Settle)
		if err == nil && len(late) > 0 {
			err = fmt.Errorf("late %q", late)
		}
		return took, err
	}}
}

// hooking is the load of webhooks that are answered at once.
func (c *sidecarChat) hooking() *stepLoad {
	return &stepLoad{c, shared.RoleOwner, func(ctx context.Context, n int) ([]time.Duration, error) {
		for {
			if c.hooked.Load() >= int64(n) {
				if open, err := c.inFlight(ctx, shared.StepHistory); err != nil || open == 0 {
					return nil, err
				}
			}
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(time.Millisecond):
			}
		}
	}}
}

// inFlight is how many steps of this name are delivered and not settled.
func (c *sidecarChat) inFlight(ctx context.Context, step string) (n float64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, sidecarURL+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	res, err := c.client.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	name := fmt.Sprintf("recall_step_in_flight{step=%q} ", step)
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name); ok {
			_, err := fmt.Sscan(value, &n)
			return n, err
		}
	}
	return 0, fmt.Errorf("/metrics has no line %q", name)
}
