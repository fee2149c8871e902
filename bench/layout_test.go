package main

import (
	"path/filepath"
	"testing"

	"github.com/chat-recall/recall/shared"
)

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
	records := []record{groupRecord(1, batch)}
	for i := range int64(500) {
		records = append(records, messageRecord(first+1+i))
	}
	message, recall, err := entryBytes(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	end := func() int {
		n, err := logEnd(c.folder())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, x := range []struct {
		name string
		do   func() error
		want int
	}{
		{"a message", func() error { return c.indexAll(t.Context(), []shared.Message{one}) }, message},
		{"a batch", func() error { return c.indexAll(t.Context(), batch) }, logBytes(records)},
		{"a recall without an open step", func() error {
			return c.recallOne(t.Context(), recallRequest(&one, 1, shared.RoleAdmin))
		}, recall},
	} {
		before := end()
		if err := x.do(); err != nil {
			t.Fatalf("%s: %v", x.name, err)
		}
		got := end() - before
		if off := float64(got-x.want) / float64(got); off < -0.05 || off > 0.05 {
			t.Errorf("%s: the plugin wrote %d bytes, the limit writes %d", x.name, got, x.want)
		}
	}
}
