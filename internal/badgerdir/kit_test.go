package badgerdir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/goleak"

	"github.com/chat-recall/recall/internal/badgerdir/dirtest"
)

// leakyEnv is set for a test that runs in a process of its own and leaves goroutines running.
const leakyEnv = "RECALL_BADGERDIR_LEAKY_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(leakyEnv) != "" {
		os.Exit(m.Run())
	}
	if commits := os.Getenv(syncsEnv); commits != "" {
		runSyncs(commits)
		return
	}
	goleak.VerifyTestMain(m,
		// Badger leaves these two running where it fails to open damaged files. A database left open leaves many more.
		goleak.IgnoreAnyFunction("github.com/dgraph-io/ristretto/v2/z.(*AllocatorPool).freeupAllocators"),
		goleak.IgnoreAnyFunction("github.com/dgraph-io/badger/v4.(*DB).monitorCache"))
}

const testMemtable = 16 << 20

// open opens a database and gives it an identity, as the index does.
func open(ctx context.Context, o Options) (*Dir, error) {
	if o.MemtableBytes == 0 {
		o.MemtableBytes = testMemtable
	}
	d, err := Open(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := identify(d); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

var identityKey = []byte("identity")

func identify(d *Dir) error {
	txn := d.NewTransaction(true)
	defer txn.Discard()
	var id Identity
	item, err := txn.Get(identityKey)
	if err == nil {
		err = item.Value(func(value []byte) error {
			_, err := fmt.Sscanf(string(value), "%s %s", &id.ID, &id.Epoch)
			return err
		})
	}
	if err != nil && !errors.Is(err, badger.ErrKeyNotFound) {
		return err
	}
	id.Version = d.Version()
	restored, err := d.Restored(id)
	if err != nil {
		return err
	}
	if id.ID == "" || restored {
		if err := d.Writable(); err != nil {
			return err
		}
		if id, err = setIdentity(txn, id.ID, append(d.Epochs(), id.Epoch)); err != nil {
			return err
		}
		if err := d.Commit(txn); err != nil {
			return err
		}
	}
	return d.Identify(id)
}

// setIdentity is a Build.Identify.
func setIdentity(txn *badger.Txn, id string, _ []string) (Identity, error) {
	n := fmt.Sprintf("%016x", time.Now().UnixNano())
	if id == "" {
		id = n + n
	}
	return Identity{ID: id, Epoch: n}, txn.Set(identityKey, []byte(id+" "+n))
}

func openAt(t testing.TB, path string) *Dir {
	t.Helper()
	d, err := open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func openNew(t testing.TB) *Dir { return openAt(t, t.TempDir()) }

// tryOpen opens a database that is expected to be refused.
func tryOpen(t *testing.T, path string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	d, err := open(ctx, Options{Path: path})
	if err == nil {
		_ = d.Close()
	}
	return err
}

func keyOf(n int) []byte { return fmt.Appendf(nil, "m%06d", n) }

// put commits the keys from one number to before another.
func put(d *Dir, from, to int) error {
	txn := d.NewTransaction(true)
	defer txn.Discard()
	for n := from; n < to; n++ {
		if err := txn.Set(keyOf(n), bytes.Repeat(keyOf(n), 20)); err != nil {
			return err
		}
	}
	return d.Commit(txn)
}

func mustPut(t testing.TB, d *Dir, from, to int) {
	t.Helper()
	if err := put(d, from, to); err != nil {
		t.Fatal(err)
	}
}

// fill commits keys, 200 at a time.
func fill(t *testing.T, d *Dir, from, to int) {
	t.Helper()
	for n := from; n < to; n += 200 {
		mustPut(t, d, n, min(n+200, to))
	}
}

// has reports whether a key is there.
func has(d *Dir, n int) (found bool, err error) {
	err = d.View(func(txn *badger.Txn) error {
		_, err := txn.Get(keyOf(n))
		if found = err == nil; errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		return err
	})
	return found, err
}

// keysIn counts the keys from the first to one that is missing.
func keysIn(t *testing.T, d *Dir) int {
	t.Helper()
	for n := 0; ; n++ {
		switch found, err := has(d, n); {
		case err != nil:
			t.Fatal(err)
		case !found:
			return n
		}
	}
}

// count opens a database and counts its keys.
func count(t *testing.T, path string) int {
	t.Helper()
	return keysIn(t, openAt(t, path))
}

// closedDir is the folder of a closed database with its keys in tables.
func closedDir(t *testing.T, keys int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "index")
	d := openAt(t, path)
	fill(t, d, 0, keys)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// crashed is the folder of a database as SIGKILL leaves it: some keys in a table, the last 500 only in the log.
func crashed(t *testing.T) (path string, keys int) {
	t.Helper()
	live := closedDir(t, 100)
	d := openAt(t, live)
	for keys = 100; keys < 600; keys += 100 {
		mustPut(t, d, keys, keys+100)
	}
	return dirtest.Snapshot(t, live), keys
}

// usedBytes is the length of a log without the zeros at its end.
func usedBytes(log []byte) int { return len(bytes.TrimRight(log, "\x00")) }

func wantDamage(t *testing.T, path, text string) {
	t.Helper()
	if err := tryOpen(t, path); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), text) {
		t.Errorf("opened: %v", err)
	}
}

// ownProcess runs a test in a process of its own, and reports whether this is that process.
func ownProcess(t *testing.T) bool {
	t.Helper()
	if os.Getenv(leakyEnv) != "" {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), leakyEnv+"=1")
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}
