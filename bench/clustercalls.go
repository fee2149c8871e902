package main

import (
	"context"
	"fmt"
	"time"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/internal/natscluster"
	"github.com/chat-recall/recall/shared"
)

// indexMessage is one call that indexes one message.
func indexMessage(ctx context.Context, h *host.Host) (time.Duration, error) {
	msgs := newMessages(1)
	return timed(func() error {
		_, err := h.Index(ctx, msgs)
		return err
	})
}

// recallMessage is one call that recalls a message that is there.
func recallMessage(ctx context.Context, h *host.Host) (time.Duration, error) {
	msgs := newMessages(1)
	msgs[0].SentAt = time.Now()
	if _, err := h.Index(ctx, msgs); err != nil {
		return 0, err
	}
	m := &msgs[0]
	return timed(func() error {
		results, err := h.Recall(ctx, shared.RecallRequest{
			Tenant: m.Tenant, RecallID: recallID(ids.Load()), Actor: shared.Actor{ID: m.Sender},
			Targets: []shared.Target{{MessageID: m.ID, Conversation: m.Conversation, Role: shared.RoleMember}},
		})
		if err == nil && results[0].Status != shared.StatusRecalled {
			err = fmt.Errorf("%s is %s %s", m.ID, results[0].Status, results[0].Code)
		}
		return err
	})
}

// publish connects to each server, and returns a request that puts an entry into a stream with as many replicas as that
// of the cluster.
func (s *clusterSpeed) publish(ctx context.Context) (do func(n int) (time.Duration, error), end func(), err error) {
	var conns []*natscluster.Conn
	end = func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}
	for i := range clusterServers {
		conn, err := s.servers.Connect(ctx, i, natscluster.User)
		if err != nil {
			return nil, end, err
		}
		conns = append(conns, conn)
	}
	entry := make([]byte, bareBytes)
	return func(n int) (time.Duration, error) {
		return timed(func() error {
			_, err := conns[n%len(conns)].Request(ctx, "bare", entry)
			return err
		})
	}, end, nil
}
