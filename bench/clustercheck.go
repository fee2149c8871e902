package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chat-recall/recall/shared"
)

// quietFor is how long no node may apply anything before a cluster counts as quiet.
const quietFor = 500 * time.Millisecond

// check waits until each step has run, and compares the answers that the clients got with what every node has. It kills
// the nodes.
func (c *cluster) check(ctx context.Context, r *clusterReport) error {
	for _, n := range c.all() {
		if err := n.waitUntilRunning(ctx, 0); err != nil {
			return err
		}
	}
	events, err := c.settle(ctx, r)
	if err != nil {
		return err
	}
	for _, n := range c.all() {
		all := func(*sentMessage) bool { return true }
		if err := c.checkStatus(ctx, r, n, all, all); err != nil {
			return err
		}
		got, err := c.events(ctx, n)
		if err != nil {
			return err
		}
		if len(got) != len(events) {
			r.fail(&r.EventsLost, "%s has %d events, and %s has %d", n.name, len(got), c.all()[0].name, len(events))
		}
		checkOrder(r, n, got, events)
	}
	c.checkEvents(r, events)
	c.checkAttachments(r, events)
	if err := c.checkRuns(r, events); err != nil {
		return err
	}
	return c.checkIndexes(ctx, r)
}

// settle waits until every step of every recall is settled and all nodes are at the same entry of the log, and returns
// the events.
func (c *cluster) settle(ctx context.Context, r *clusterReport) (events []shared.Event, err error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	var open []shared.Event
	for first := true; first || len(open) > 0; first = false {
		if err := c.waitUntilQuiet(ctx); err != nil {
			for i, e := range open {
				r.fail(&r.EventsLost, "%s has steps that are not settled", e.RecallID)
				if i == maxFailed {
					break
				}
			}
			return nil, err
		}
		if first {
			if events, err = c.events(ctx, c.all()[0]); err != nil {
				return nil, err
			}
			open = events
		}
		if open, err = c.unsettled(ctx, c.all()[0], open); err != nil {
			return nil, err
		}
	}
	return events, c.waitUntilQuiet(ctx)
}

// waitUntilQuiet waits until all nodes are at the same entry of the log, and stay there.
func (c *cluster) waitUntilQuiet(ctx context.Context) error {
	last := uint64(0)
	for {
		var positions []uint64
		var errs error
		for _, n := range c.all() {
			position, err := n.position(ctx)
			if err != nil {
				errs = err
			}
			positions = append(positions, position)
		}
		if errs == nil && positions[0] == last && slices.Min(positions) == slices.Max(positions) {
			return nil
		}
		last = positions[0]
		if c.wait(ctx, quietFor) != nil {
			return fmt.Errorf("the nodes do not come to the same entry of the log: they are at %v (%v)", positions, errs)
		}
	}
}

// events are those of a node, in its order.
func (c *cluster) events(ctx context.Context, n *clusterNode) (all []shared.Event, err error) {
	req := shared.SinceRequest{Tenant: tenant, Conversations: clusterChats()}
	for more := true; more; {
		page, err := ask[shared.EventPage](ctx, n, "/since", req)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Events...)
		req.After, more = page.Next, page.More
	}
	return all, nil
}

// unsettled are those of some events that have a step which is not settled, as a node has it.
func (c *cluster) unsettled(ctx context.Context, n *clusterNode, events []shared.Event) ([]shared.Event, error) {
	var mu sync.Mutex
	var open []shared.Event
	var asking errgroup.Group
	asking.SetLimit(16)
	for _, e := range events {
		asking.Go(func() error {
			page, err := ask[shared.LedgerPage](ctx, n, "/ledger", shared.LedgerRequest{Tenant: tenant, RecallID: e.RecallID})
			if err != nil {
				return err
			}
			isOpen := func(s shared.StepRecord) bool { return !s.Outcome.Settles() }
			if len(page.Entries) != 1 || slices.ContainsFunc(page.Entries[0].Steps, isOpen) {
				mu.Lock()
				defer mu.Unlock()
				open = append(open, e)
			}
			return nil
		})
	}
	err := asking.Wait()
	return open, err
}

// checkStatus checks that a node has the messages that it must have and were acknowledged, and names the winner of
// those of which it must know that.
func (c *cluster) checkStatus(
	ctx context.Context, r *clusterReport, n *clusterNode, mustHave, mustKnow func(*sentMessage) bool,
) error {
	var acked []*sentMessage
	for _, m := range c.load.messages {
		if m.node != nil && mustHave(m) {
			acked = append(acked, m)
		}
	}
	for part := range slices.Chunk(acked, shared.MaxStatusIDs) {
		var ids []string
		for _, m := range part {
			ids = append(ids, m.ID)
		}
		statuses, err := ask[[]shared.MessageStatus](ctx, n, "/status", ids)
		if err != nil {
			return err
		}
		for i, s := range statuses {
			m := part[i]
			isWon := m.winner != "" && mustKnow(m)
			switch {
			case s.State == shared.MessageUnknown:
				r.fail(&r.Lost, "%s does not know %s, which %s has acknowledged", n.name, m.ID, m.node.name)
			case isWon && s.State != shared.MessageRecalled:
				r.fail(&r.Lost, "%s says that %s is %s, and the answer to its recall was %s", n.name, m.ID, s.State, m.winner)
			case isWon && s.RecallID != m.winner:
				r.fail(&r.WinnersDiffer, "%s says that %s recalled %s, and the answer was %s", n.name, s.RecallID,
					m.ID, m.winner)
			case m.raced == 0 && s.State != shared.MessageLive:
				r.fail(nil, "%s says that %s is %s, and nobody has recalled it", n.name, m.ID, s.State)
			}
		}
	}
	return nil
}

// checkOrder checks that the events of a node are those of another one, in the same order, as far as both have come.
func checkOrder(r *clusterReport, n *clusterNode, got, want []shared.Event) {
	for i := range min(len(got), len(want)) {
		if got[i].Sequence != want[i].Sequence || got[i].RecallID != want[i].RecallID {
			r.fail(&r.OrderDiffers, "the %d. event is %s (%d) on %s, and %s (%d) on others", i+1, got[i].RecallID,
				got[i].Sequence, n.name, want[i].RecallID, want[i].Sequence)
		}
	}
}

// recallIDs are those of the events, by message. No message may have two events.
func recallIDs(r *clusterReport, events []shared.Event) map[string]string {
	of := map[string]string{}
	for _, e := range events {
		if before, twice := of[e.Message.ID]; twice {
			r.fail(&r.WinnersDiffer, "%s has two events, %s and %s", e.Message.ID, before, e.RecallID)
		}
		of[e.Message.ID] = e.RecallID
	}
	return of
}

// checkEvents checks that there is exactly one event for each recall that has won.
func (c *cluster) checkEvents(r *clusterReport, events []shared.Event) {
	of := recallIDs(r, events)
	for _, m := range c.load.messages {
		if m.winner != "" && of[m.ID] != m.winner {
			r.fail(&r.EventsLost, "%s was recalled by %s, and its event is %q", m.ID, m.winner, of[m.ID])
		}
	}
}

// checkAttachments checks that each attachment is released once if all its messages are recalled, and else not at all.
func (c *cluster) checkAttachments(r *clusterReport, events []shared.Event) {
	released := map[string]int{}
	for _, e := range events {
		for _, a := range e.Attachments {
			released[a.Key]++
		}
	}
	want, unknown := map[string]int{}, map[string]bool{}
	for _, m := range c.load.messages {
		for _, a := range m.Attachments {
			if _, seen := want[a.Key]; !seen {
				want[a.Key] = 1
			}
			if m.winner == "" {
				want[a.Key] = 0
			}
			// Where a client had no answer, nobody knows what there is.
			unknown[a.Key] = unknown[a.Key] || m.node == nil || m.raced != 0 && m.winner == ""
		}
	}
	for key, n := range want {
		if released[key] != n && !unknown[key] {
			r.fail(&r.AttachmentsWrong, "the attachment %s was released %d times, and must be %d times", key, released[key], n)
		}
	}
}
