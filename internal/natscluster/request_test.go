package natscluster_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/natscluster"
	"github.com/chat-recall/recall/internal/natscluster/natstest"
)

func TestServers_Leader(t *testing.T) {
	s := natstest.Start(t, 3, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var answer struct{}
	config := []byte(`{"name":"X","subjects":["x"],"num_replicas":3}`)
	err := s.API(ctx, "STREAM.CREATE.X", config, &answer)
	for err != nil && strings.Contains(err.Error(), "no suitable peers") { // they do not all know of each other yet
		time.Sleep(10 * time.Millisecond)
		err = s.API(ctx, "STREAM.CREATE.X", config, &answer)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WaitUntilCurrent(ctx, "X"); err != nil {
		t.Fatal(err)
	}
	first, err := s.Leader(ctx, "X")
	if err != nil {
		t.Fatal(err)
	}
	s.Stop(first)
	second, err := s.Leader(ctx, "X")
	if err != nil || second == first {
		t.Errorf("after s%d was stopped, s%d leads: %v", first, second, err)
	}
	short, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	if err := s.WaitUntilCurrent(short, "X"); err == nil {
		t.Error("a server that is stopped has all of the stream")
	}
	if err := s.Start(ctx, first); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitUntilCurrent(ctx, "X"); err != nil {
		t.Error(err)
	}
	if err := s.API(ctx, "STREAM.DELETE.X", nil, &answer); err != nil {
		t.Error(err)
	}
	if _, err := s.Leader(ctx, "X"); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("of a stream that was deleted: %v", err)
	}
}

func TestServers_Request(t *testing.T) {
	s := natstest.Start(t, 1, nil)
	_, err := s.Request(t.Context(), natscluster.User+"x", "$JS.API.INFO", nil)
	if err == nil || !strings.Contains(err.Error(), "Authorization Violation") {
		t.Errorf("another password: %v", err)
	}
}
