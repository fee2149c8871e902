package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/shared"
)

// measureNewNodes measures how long a new node takes from nothing, by the log and by a snapshot.
func (s *clusterSpeed) measureNewNodes(ctx context.Context) error {
	progress("speed: filling %d messages", speedMessages)
	before, err := s.streamBytes(ctx, clusterStream)
	if err != nil {
		return err
	}
	filling := &load{
		callers: speedCallers, calls: speedMessages / shared.MaxIndexBatch,
		do: func(ctx context.Context, _, _ int) (time.Duration, error) {
			_, err := s.hosts[0].Index(ctx, newMessages(shared.MaxIndexBatch))
			return 0, err
		},
	}
	if _, err := filling.call(ctx, time.Hour); err != nil {
		return err
	}
	if err := s.waitUntilApplied(ctx, s.hosts[0]); err != nil {
		return err
	}
	after, err := s.streamBytes(ctx, clusterStream)
	if err != nil {
		return err
	}
	messages := float64(s.known + speedMessages)
	s.add("log_bytes", "bytes of a message in the log, in large entries, on each server that has it",
		(after-before)/speedMessages, target{})
	replayed, err := s.timeNewNode(ctx)
	if err != nil {
		return fmt.Errorf("replay the log: %w", err)
	}
	s.add("replay_per_s", fmt.Sprintf("messages a second that a new node reads from the log, of %.0f", messages),
		messages/replayed.Seconds(), atLeast(150_000))
	if err := s.takeSnapshot(ctx); err != nil {
		return fmt.Errorf("take a snapshot: %w", err)
	}
	restored, err := s.timeNewNode(ctx)
	if err != nil {
		return fmt.Errorf("restore a snapshot: %w", err)
	}
	s.add("restore_s", fmt.Sprintf("seconds until a new node has a snapshot of %.0f messages", messages),
		restored.Seconds(), atMost(10))
	size, err := s.streamBytes(ctx, "OBJ_"+clusterStream+"_SNAPSHOTS")
	if err != nil {
		return err
	}
	s.add("snapshot_bytes", "bytes of a message in a snapshot, on each server that has it", size/messages, target{})
	return nil
}

// streamBytes is the size of a stream on each of its servers.
func (s *clusterSpeed) streamBytes(ctx context.Context, name string) (float64, error) {
	var info struct {
		State struct {
			Bytes float64 `json:"bytes"`
		} `json:"state"`
	}
	err := s.servers.API(ctx, "STREAM.INFO."+name, nil, &info)
	return info.State.Bytes, err
}

// timeNewNode opens one more node, and closes it.
func (s *clusterSpeed) timeNewNode(ctx context.Context) (time.Duration, error) {
	waitForQuiet(ctx)
	start := time.Now()
	h, err := s.openNode(ctx)
	if err != nil {
		return 0, err
	}
	took := time.Since(start)
	return took, h.Close()
}

// takeSnapshot has the first node take one.
func (s *clusterSpeed) takeSnapshot(ctx context.Context) error {
	n := s.cluster.all()[0]
	text, err := os.ReadFile(n.path(configFile))
	if err != nil {
		return err
	}
	text = append(text[:len(text)-len("}\n")], "  snapshot_entries = 1000\n}\n"...)
	if err := os.WriteFile(n.path(configFile), text, 0o600); err != nil {
		return err
	}
	if _, err := s.hosts[0].Upgrade(ctx, host.Binary{Path: s.binaries.plugin}); err != nil {
		return err
	}
	for {
		position, err := metricOf(ctx, s.hosts[0], "recall_cluster_snapshot_position")
		if err != nil || position > 0 {
			return err
		}
		if err := s.wait(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}
