package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

func TestTimeline(t *testing.T) {
	db := newChat(t)
	cursor := filepath.Join(t.TempDir(), "cursor")
	var got []string
	var fails error
	begin := func() func() []string {
		f := created(db.DB).follow("posts", cursor, hclog.NewNullLogger(), func(_ context.Context, posts []post) error {
			got = append(got, postIDs(posts)...)
			return fails
		})
		return func() []string {
			got = nil
			if err := f.Once(t.Context()); !errors.Is(err, fails) {
				t.Fatal(err)
			}
			return got
		}
	}
	pass := begin()
	db.post("old", town, alice, "", time.Hour)
	if got := pass(); len(got) != 0 {
		t.Errorf("what was there before the plugin: %v", got)
	}
	db.post("p1", town, alice, "", 0)
	db.post("dm", direct, alice, "", 0)
	if got := pass(); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"dm", "p1"}) {
		t.Errorf("new posts: %v", got)
	}
	if got := pass(); len(got) != 0 {
		t.Errorf("a second time: %v", got)
	}
	t.Run("a post that is committed late", func(t *testing.T) {
		db.post("late", town, alice, "", overlap/2)
		if got := pass(); !slices.Equal(got, []string{"late"}) {
			t.Errorf("%v", got)
		}
	})
	t.Run("what fails comes again", func(t *testing.T) {
		db.post("again", town, alice, "", 0)
		db.post("later", town, alice, "", overlap/2)
		fails = errors.New("the plugin restarts")
		if got := pass(); len(got) != 2 {
			t.Errorf("%v", got)
		}
		fails = nil
		if got := pass(); len(got) != 2 {
			t.Errorf("after a failure: %v", got)
		}
		if got := pass(); len(got) != 0 {
			t.Errorf("after that: %v", got)
		}
	})
	t.Run("what was posted while the plugin was disabled, in many pages", func(t *testing.T) {
		db.exec(`UPDATE posts SET createat = createat - 3600000`)
		position := fmt.Sprintf("%d:", time.Now().Add(-time.Minute).UnixMilli())
		if err := os.WriteFile(cursor, []byte(position), 0o600); err != nil {
			t.Fatal(err)
		}
		for i := range 2*pollPage + 1 {
			db.post(fmt.Sprintf("missed%d", i), town, alice, "", 30*time.Second)
		}
		pass = begin() // a new process
		got := pass()
		slices.Sort(got)
		if n := len(slices.Compact(got)); n != 2*pollPage+1 {
			t.Errorf("%d posts, want %d", n, 2*pollPage+1)
		}
	})
	t.Run("a damaged cursor is an error", func(t *testing.T) {
		if _, err := created(db.DB).read(t.Context(), "x"); err == nil {
			t.Error("accepted")
		}
	})
	t.Run("a database that is gone is an error", func(t *testing.T) {
		fails = os.ErrClosed
		db.Close()
		if _, err := created(db.DB).read(t.Context(), "1:"); err == nil {
			t.Error("no error")
		}
	})
}
