package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/index"
)

// contentOf is what an index holds, and which one it is.
func contentOf(t *testing.T, path string) (index.Content, index.Identity) {
	t.Helper()
	x, err := index.Open(t.Context(), index.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	id := x.Identity()
	content, err := x.Content(t.Context(), nil)
	if err := errors.Join(err, x.Close()); err != nil {
		t.Fatal(err)
	}
	return content, id
}

func TestIndexCompact(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	machineIndex(t, path, 50)
	want, was := contentOf(t, path)
	stdout, stderr, code := byHand(t, "index", "compact", "--json", path)
	if code != 0 {
		t.Fatal(stderr)
	}
	var r compacted
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || r.Keys == 0 || r.After == 0 || r.Index.ID != was.ID {
		t.Errorf("%v: %s", err, stdout)
	}
	content, id := contentOf(t, path)
	if content != want {
		t.Errorf("it held %+v and holds %+v", want, content)
	}
	if id.ID != was.ID || id.Epoch != was.Epoch {
		t.Errorf("it was %+v and is %+v", was, id)
	}
	if _, stderr, code := byHand(t, "index", "verify", path); code != 0 {
		t.Error(stderr)
	}
}

func TestIndexCompact_Refused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	for _, args := range [][]string{nil, {"a", "b"}} {
		if _, stderr, code := byHand(t, append([]string{"index", "compact"}, args...)...); code != exitUsage {
			t.Errorf("%v: exit %d, %s", args, code, stderr)
		}
	}
	if _, stderr, code := byHand(t, "index", "compact", path); code != exitBad {
		t.Errorf("no index: exit %d, %s", code, stderr)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it made an index: %v", err)
	}
	machineIndex(t, path, 1)
	x, err := index.Open(t.Context(), index.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if _, stderr, code := byHand(t, "index", "compact", path); code != exitBad || !strings.Contains(stderr, "held") {
		t.Errorf("an open index: exit %d, %s", code, stderr)
	}
}

// TestIndexCompact_Killed kills the command at different moments.
func TestIndexCompact_Killed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	machineIndex(t, path, 300)
	want, was := contentOf(t, path)
	killed := 0
	for delay := time.Duration(0); ; delay += 5 * time.Millisecond {
		cmd := exec.CommandContext(t.Context(), binary, "index", "compact", path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(delay)
		_ = cmd.Process.Kill()
		ended := cmd.Wait() == nil
		if content, id := contentOf(t, path); content != want || id.Epoch != was.Epoch {
			t.Fatalf("killed after %s: it held %+v and holds %+v", delay, want, content)
		}
		left, err := filepath.Glob(path + ".*")
		if !ended { // a kill may leave a marker that is being written, which the next one replaces
			left = slices.DeleteFunc(left, func(name string) bool { return name == path+".marker.new" })
		}
		if err != nil || !slices.Equal(left, []string{path + ".marker"}) {
			t.Errorf("killed after %s: %v %v", delay, left, err)
		}
		if ended {
			break
		}
		killed++
	}
	if killed < 5 {
		t.Errorf("it was killed only %d times", killed)
	}
}
