package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

// syncsEnv makes the test binary a writer of so many commits.
const syncsEnv = "RECALL_INDEX_TEST_SYNCS"

// runSyncs makes so many commits, one after the other, and ends as a kill would end it.
func runSyncs(commits string) {
	n, err := strconv.Atoi(commits)
	if err != nil {
		panic(err)
	}
	x, err := Open(context.Background(), Options{Path: os.Args[1]})
	if err != nil {
		panic(err)
	}
	for i := range n {
		x.AppendThen([]Op{put(message(fmt.Sprint("m", i)))}, true, func(_ []Result, err error) {
			if err != nil {
				panic(err)
			}
		})
	}
	os.Exit(0)
}

func TestLiveLog_OneSyncACommit(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		hosttest.Missing(t, "strace")
	}
	syncs := func(commits int) map[string]int {
		trace := filepath.Join(t.TempDir(), "trace")
		cmd := exec.Command(
			strace,
			"-f",
			"-y",
			"-qq",
			"-e",
			"trace=fsync,fdatasync,msync,sync_file_range,sync,syncfs",
			"-o",
			trace,
			os.Args[0],
			filepath.Join(t.TempDir(), "index"),
		)
		cmd.Env = append(os.Environ(), syncsEnv+"="+strconv.Itoa(commits))
		out, err := cmd.CombinedOutput()
		if bytes.Contains(out, []byte("Operation not permitted")) {
			hosttest.Missing(t, "permission to trace a process (ptrace)")
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		text, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		counts := map[string]int{}
		for line := range strings.Lines(string(text)) {
			_, call, _ := strings.Cut(line, " ")
			name, arguments, ok := strings.Cut(strings.TrimSpace(call), "(")
			if !ok {
				continue // the rest of an interrupted line
			}
			if path, _, found := strings.Cut(arguments, ">"); found {
				name += " " + filepath.Ext(path)
			}
			counts[name]++
		}
		return counts
	}
	few, many := syncs(20), syncs(220)
	for name, n := range many {
		want := 0
		if name == "fdatasync .mem" {
			want = 200
		}
		if got := n - few[name]; got != want {
			t.Errorf("%s: %d more for 200 more commits, want %d", name, got, want)
		}
	}
	if many["fdatasync .mem"] < 220 {
		t.Errorf("%v", many)
	}
}

func TestLiveLog_ZeroesAhead(t *testing.T) {
	path := t.TempDir()
	x := openAt(t, path)
	known := map[string]bool{}
	logs := map[string]bool{}
	smalls := 0
	for i := 0; len(logs) < 3; i++ {
		var ops []Op
		for j := range 1 + i%2*rand.IntN(1000) {
			m := message(fmt.Sprintf("m-%d-%d", i, j), strings.Repeat("x", 1+rand.IntN(shared.MaxAttachmentBytes)))
			ops = append(ops, put(m))
		}
		x.AppendThen(ops, true, func(_ []Result, err error) {
			if err != nil {
				t.Fatal(err)
			}
		})
		for _, op := range ops {
			known[op.Put.ID] = true
		}
		logs[x.live.file.Name()] = true
		if small := x.live.last <= zeroUpTo; small && x.live.zeroed < x.live.end+zeroAhead {
			t.Fatalf("after commit %d the log ends at %d and is zeroed up to %d", i, x.live.end, x.live.zeroed)
		} else if small {
			smalls++
		}
		written, err := written(x.live.file, 2*x.memtable)
		if err != nil || written < x.live.zeroed {
			t.Fatalf("data up to %d, zeroed up to %d: %v", written, x.live.zeroed, err)
		}
	}
	if smalls < 10 {
		t.Errorf("%d small commits", smalls)
	}
	for id := range known {
		if r, err := x.Messages("acme", []string{id}); err != nil || r[0] == nil {
			t.Fatalf("%s: %v %v", id, r, err)
		}
	}
	// What another process reads from the files is the same.
	copied := t.TempDir()
	if err := os.CopyFS(filepath.Join(copied, "index"), os.DirFS(path)); err != nil {
		t.Fatal(err)
	}
	y := openAt(t, filepath.Join(copied, "index"))
	for id := range known {
		if r, err := y.Messages("acme", []string{id}); err != nil || r[0] == nil {
			t.Fatalf("%s after a crash: %v %v", id, r, err)
		}
	}
}

func TestLiveLog_CommitThatIsNotInTheLog(t *testing.T) {
	x := openNew(t)
	apply(t, x, put(message("m")))
	x.committing.Lock()
	x.commitAt = func(_ *badger.Txn, version uint64) error { return x.live.sync(version) } // as if Badger had written nothing
	x.committing.Unlock()
	_, err := x.Append(t.Context(), []Op{put(message("n"))})
	if !errors.Is(err, shared.ErrUnavailable) || !errors.Is(err, ErrCorrupt) || x.Failure() == nil {
		t.Errorf("%v; the index says %v", err, x.Failure())
	}
}

func TestLiveLog_NumbersOfLogs(t *testing.T) {
	if byLogNumber("99999.mem", "100000.mem") >= 0 || logNumber("/a/b/00012.mem") != 12 {
		t.Error("logs are not ordered by number")
	}
}

func TestAppendThen(t *testing.T) {
	x := openNew(t)
	t.Run("alone commits on the calling goroutine", func(t *testing.T) {
		answered := false // unsynchronised: under the race detector another goroutine would show
		x.AppendThen([]Op{put(message("a"))}, true, func(r []Result, err error) {
			answered = err == nil && r[0].Put == shared.Indexed
		})
		if !answered {
			t.Error("not answered when AppendThen returned")
		}
	})
	t.Run("alone while another commits", func(t *testing.T) {
		h := hold(x)
		done := make(chan error, 1)
		x.AppendThen([]Op{put(message("b"))}, true, func(_ []Result, err error) { done <- err })
		select {
		case err := <-done:
			t.Errorf("answered while the committer is held: %v", err)
		default:
		}
		h.release()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Run("takes along what waits", func(t *testing.T) {
		x.committing.Lock()
		var waiting []chan error
		for i := range 3 {
			done := make(chan error, 1)
			waiting = append(waiting, done)
			if err := x.queue.push(&call{ops: []Op{put(message(fmt.Sprint("c", i)))},
				answer: func(_ []Result, err error) { done <- err }}); err != nil {
				t.Fatal(err)
			}
		}
		x.committing.Unlock()
		x.AppendThen([]Op{put(message("d"))}, true, func([]Result, error) {})
		for _, done := range waiting {
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			default:
				t.Error("left behind")
			}
		}
	})
	t.Run("refused", func(t *testing.T) {
		calls := 0
		x.AppendThen([]Op{{}}, true, func(_ []Result, err error) {
			if calls++; !errors.Is(err, shared.ErrInvalid) {
				t.Error(err)
			}
		})
		if calls != 1 {
			t.Errorf("answered %d times", calls)
		}
	})
	t.Run("closed", func(t *testing.T) {
		y := openNew(t)
		if err := y.Close(); err != nil {
			t.Fatal(err)
		}
		for _, alone := range []bool{true, false} {
			done := make(chan error, 1)
			y.AppendThen([]Op{put(message("m"))}, alone, func(_ []Result, err error) { done <- err })
			if err := <-done; !errors.Is(err, shared.ErrUnavailable) {
				t.Error(err)
			}
		}
	})
}

func TestLiveLog_RemovedOrSparse(t *testing.T) {
	x := openNew(t)
	apply(t, x, put(message("m")))
	var info syscall.Stat_t
	if err := syscall.Fstat(int(x.live.file.Fd()), &info); err != nil {
		t.Fatal(err)
	}
	if !x.live.sparse && info.Blocks*512 < x.live.size {
		t.Errorf("%d bytes of the log are set aside; its size is %d", info.Blocks*512, x.live.size)
	}
	if err := os.Remove(x.live.file.Name()); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Append(t.Context(), []Op{put(message("n"))}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v", err)
	}
}
