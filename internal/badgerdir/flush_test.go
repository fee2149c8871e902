package badgerdir

import (
	"context"
	"errors"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/badgerdir/dirtest"
	"github.com/chat-recall/recall/shared"
)

// pad returns what Flush fills the log with.
func pad(d *Dir) func(context.Context, int) error {
	return func(ctx context.Context, bytes int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		txn := d.NewTransaction(true)
		defer txn.Discard()
		return errors.Join(txn.Set([]byte("padding"), make([]byte, bytes)), d.Commit(txn))
	}
}

// logged is how many bytes are written in the logs of a database.
func logged(t *testing.T, path string) (bytes int64) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(path, "*.mem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, log := range logs {
		facts, _, err := checkLog(log)
		if err != nil {
			t.Fatal(err)
		}
		bytes += facts.end
	}
	return bytes
}

// filled is a database with something to flush.
func filled(t *testing.T) *Dir {
	t.Helper()
	d := openNew(t)
	fill(t, d, 0, 10_000)
	return d
}

func TestFlush_LeavesLittleToReplay(t *testing.T) {
	d := filled(t)
	if n := logged(t, d.path); n < 1<<20 {
		t.Fatalf("%d bytes in the log before: too little for this test", n)
	}
	if err := d.Flush(t.Context(), pad(d)); err != nil {
		t.Fatal(err)
	}
	if n := logged(t, d.path); n > littleLogged {
		t.Errorf("%d bytes in the log after", n)
	}
	fill(t, d, 10_000, 11_000)
	if n := count(t, dirtest.Snapshot(t, d.path)); n != 11_000 {
		t.Errorf("%d keys after a crash", n)
	}
}

func TestFlush_LittleLogged(t *testing.T) {
	d := openNew(t)
	mustPut(t, d, 0, 1)
	before := d.Version()
	if err := d.Flush(t.Context(), pad(d)); err != nil || d.Version() != before {
		t.Errorf("%v, %d commits", err, d.Version()-before)
	}
}

func TestFlush_Fails(t *testing.T) {
	t.Run("canceled", func(t *testing.T) {
		d := filled(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := d.Flush(ctx, pad(d)); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("closed", func(t *testing.T) {
		d := filled(t)
		crash := dirtest.Snapshot(t, d.path) // with something logged
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d.path = crash
		err := d.Flush(t.Context(), pad(d))
		if !errors.Is(err, shared.ErrUnavailable) {
			t.Error(err)
		}
	})
	t.Run("full disk", func(t *testing.T) {
		d := filled(t)
		d.space.free, d.space.checked = func(string) (uint64, error) { return 1, nil }, time.Time{}
		if err := d.Flush(t.Context(), pad(d)); !errors.Is(err, ErrDiskFull) {
			t.Error(err)
		}
		if names, _, err := d.logs(); err != nil || len(names) != 1 {
			t.Errorf("logs %v, %v", names, err)
		}
	})
	t.Run("failed", func(t *testing.T) {
		d := filled(t)
		d.Fail(syscall.EIO)
		before := d.Version()
		if err := d.Flush(t.Context(), pad(d)); !errors.Is(err, syscall.EIO) || d.Version() != before {
			t.Errorf("%v, %d commits", err, d.Version()-before)
		}
	})
}

func TestFlush_LeavesLittlePaddingInTables(t *testing.T) {
	const memtable, rounds = 8 << 20, 10
	d, err := open(t.Context(), Options{Path: t.TempDir(), MemtableBytes: memtable})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for round := range rounds {
		fill(t, d, round*4000, (round+1)*4000)
		if err := d.Flush(t.Context(), pad(d)); err != nil {
			t.Fatal(err)
		}
	}
	size := int64(0)
	for _, table := range d.db.Tables() {
		size += int64(table.OnDiskSize)
	}
	if size > rounds*memtable/2 { // the keys take less than 7 MiB
		t.Errorf("%d MiB of tables after %d times", size>>20, rounds)
	}
}

func TestFlush_WhileOthersRead(t *testing.T) {
	d := filled(t)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n = (n + 1) % 10_000 {
			select {
			case <-stop:
				return
			default:
			}
			if found, err := has(d, n); err != nil || !found {
				t.Errorf("key %d: %v %v", n, found, err)
				return
			}
		}
	}()
	for range 2 {
		fill(t, d, 10_000, 15_000)
		if err := d.Flush(t.Context(), pad(d)); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	<-done
}
