package badgerdir

import (
	"bytes"
	"context"
	"errors"
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
	"github.com/chat-recall/recall/internal/badgerdir/dirtest"
	"github.com/chat-recall/recall/shared"
)

// syncsEnv makes the test binary a writer of so many commits.
const syncsEnv = "RECALL_BADGERDIR_TEST_SYNCS"

// runSyncs makes so many commits and exits without Close.
func runSyncs(commits string) {
	n, err := strconv.Atoi(commits)
	if err != nil {
		panic(err)
	}
	d, err := open(context.Background(), Options{Path: os.Args[1]})
	if err != nil {
		panic(err)
	}
	for i := range n {
		if err := put(d, i, i+1); err != nil {
			panic(err)
		}
		d.ZeroAhead()
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
		cmd := exec.Command(strace, "-f", "-y", "-qq", "-e", "trace=fsync,fdatasync,msync,sync_file_range,sync,syncfs",
			"-o", trace, os.Args[0], filepath.Join(t.TempDir(), "index"))
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
			if !ok || name == "???" {
				continue // the rest of an interrupted line, or a thread that was between two calls when the process ended
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
	d := openNew(t)
	logs := map[string]bool{}
	keys, smalls := 0, 0
	for i := 0; len(logs) < 3; i++ {
		to := keys + 1 + i%2*rand.IntN(3000)
		mustPut(t, d, keys, to)
		keys = to
		d.ZeroAhead()
		logs[d.live.file.Name()] = true
		if small := d.live.last <= zeroUpTo; small && d.live.zeroed < d.live.end+zeroAhead {
			t.Fatalf("after commit %d the log ends at %d and is zeroed up to %d", i, d.live.end, d.live.zeroed)
		} else if small {
			smalls++
		}
		written, err := written(d.live.file, 2*d.memtable)
		if err != nil || written < d.live.zeroed {
			t.Fatalf("data up to %d, zeroed up to %d: %v", written, d.live.zeroed, err)
		}
	}
	if smalls < 10 {
		t.Errorf("%d small commits", smalls)
	}
	if n := keysIn(t, d); n != keys {
		t.Fatalf("%d of %d keys", n, keys)
	}
	if n := count(t, dirtest.Snapshot(t, d.path)); n != keys { // what another process reads from the files
		t.Fatalf("%d of %d keys after a crash", n, keys)
	}
}

func TestLiveLog_CommitNotInTheLog(t *testing.T) {
	d := openNew(t)
	mustPut(t, d, 0, 1)
	// As if Badger had written nothing.
	d.commitAt = func(_ *badger.Txn, version uint64) error { return d.live.sync(version) }
	err := put(d, 1, 2)
	if !errors.Is(err, shared.ErrUnavailable) || !errors.Is(err, ErrCorrupt) || d.Failure() == nil {
		t.Errorf("%v; the database says %v", err, d.Failure())
	}
}

func TestLiveLog_NumbersOfLogs(t *testing.T) {
	if byLogNumber("99999.mem", "100000.mem") >= 0 || logNumber("/a/b/00012.mem") != 12 {
		t.Error("logs are not ordered by number")
	}
}

func TestLiveLog_RemovedOrSparse(t *testing.T) {
	d := openNew(t)
	mustPut(t, d, 0, 1)
	var info syscall.Stat_t
	if err := syscall.Fstat(int(d.live.file.Fd()), &info); err != nil {
		t.Fatal(err)
	}
	if !d.live.sparse && info.Blocks*512 < d.live.size {
		t.Errorf("%d bytes of the log are allocated; its size is %d", info.Blocks*512, d.live.size)
	}
	if err := os.Remove(d.live.file.Name()); err != nil {
		t.Fatal(err)
	}
	if err := put(d, 1, 2); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v", err)
	}
}
