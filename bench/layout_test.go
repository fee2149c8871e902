package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chat-recall/recall/shared"
)

// logEnd is how far the newest log of an index is written.
func logEnd(t *testing.T, folder string) int {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(folder, "*.mem"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(logs)
	for _, log := range slices.Backward(logs) { // the last one may be empty, for later
		data, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		if end := len(bytes.TrimRight(data, "\x00")); end > 0 {
			return end
		}
	}
	t.Fatalf("%s has no log", folder)
	return 0
}

// TestLayout_IsWhatThePluginWrites compares the records here with the log of a real plugin.
func TestLayout_IsWhatThePluginWrites(t *testing.T) {
	dir, config, remove, err := workplace()
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	c := &chat{parent: dir, name: "chat", binary: filepath.Join(filepath.Dir(config), "recall-plugin")}
	if err := c.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer c.close()
	msgs := newMessages(501)
	one, batch := msgs[0], msgs[1:]
	first := ids.Load() - 500
	records := func(n int) (all []record) {
		for i := range n {
			all = append(all, messageRecords(first+int64(i))...)
		}
		return append(all, groupRecord(1, n))
	}
	for _, x := range []struct {
		name string
		do   func() error
		want int
	}{
		{"a message", func() error { return c.indexAll(t.Context(), []shared.Message{one}) }, logBytes(records(1))},
		{"a batch", func() error { return c.indexAll(t.Context(), batch) }, logBytes(records(500))},
		{"a recall without an open step", func() error {
			return c.recallOne(t.Context(), recallRequest(&one, 1, shared.RoleAdmin))
		}, logBytes(recallRecords(1))},
	} {
		before := logEnd(t, c.folder())
		if err := x.do(); err != nil {
			t.Fatalf("%s: %v", x.name, err)
		}
		got := logEnd(t, c.folder()) - before
		if off := float64(got-x.want) / float64(got); off < -0.1 || off > 0.1 {
			t.Errorf("%s: the plugin wrote %d bytes, the limit writes %d", x.name, got, x.want)
		}
	}
}
