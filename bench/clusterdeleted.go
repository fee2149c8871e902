package main

import (
	"context"
	"slices"
	"time"

	"github.com/chat-recall/recall/shared"
)

// The fault of a stream that is deleted.

// deleteStream is the fault "stream_deleted".
func deleteStream(ctx context.Context, c *cluster) error {
	if err := c.wait(ctx, 2*faultAfter); err != nil {
		return err
	}
	var answer struct{}
	progress("the stream is deleted")
	return c.servers.API(ctx, "STREAM.DELETE."+clusterStream, nil, &answer)
}

// logDeleted is what a plugin logs that has lost its log for good.
const logDeleted = "this node no longer follows the log"

// checkDeleted checks that each node stops and says why, that no client gets an acknowledgement any more, and that each
// node has what it acknowledged, once and in the same order.
func checkDeleted(ctx context.Context, c *cluster, r *clusterReport) error {
	var longest []shared.Event
	for i, n := range c.all() {
		if err := n.waitForLog(ctx, 0, logDeleted); err != nil {
			r.fail(nil, "%v", err)
		}
		late := newBatch(clusterIndexers+i, 0, time.Now())[0].Message
		try, cancel := context.WithTimeout(ctx, tryTimeout)
		_, err := ask[[]shared.IndexResult](try, n, "/index", []shared.Message{late})
		cancel()
		if err == nil {
			r.fail(nil, "%s acknowledges %s, and there is no stream", n.name, late.ID)
		}
		progress("%s: %v", n.name, err)
		mustHave := func(m *sentMessage) bool { return m.node == n }
		mustKnow := func(m *sentMessage) bool { return slices.Contains(m.answered, n) }
		if err := c.checkStatus(ctx, r, n, mustHave, mustKnow); err != nil {
			return err
		}
		events, err := c.events(ctx, n)
		if err != nil {
			return err
		}
		checkOrder(r, n, events, longest)
		if len(events) > len(longest) {
			longest = events
		}
	}
	recallIDs(r, longest)
	return nil
}
