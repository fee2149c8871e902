package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

// contents are the keys and values of an index, but for its identity.
func contents(t testing.TB, x *Index) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := x.dir.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			value, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			if key := string(it.Item().Key()); key != string(identityKey) {
				all[key] = string(value)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func restore(t *testing.T, backup []byte) (Restored, string, error) {
	t.Helper()
	to := filepath.Join(t.TempDir(), "index")
	done, err := Restore(t.Context(), bytes.NewReader(backup), to, hclog.NewNullLogger(), nil)
	return done, to, err
}

func TestBackup_OneVersionWhileServing(t *testing.T) {
	x := openNew(t)
	fill(t, x, 4000)
	want, before := contents(t, x), x.Identity()
	page, err := x.Since(t.Context(), shared.SinceRequest{Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	written := make(chan struct{})
	go func() {
		defer close(written)
		for i := 0; ctx.Err() == nil; i++ {
			later := recall("later", message(fmt.Sprint("later", i)))
			_, _ = x.Append(ctx, []Op{later, settle(uint64(i+1), shared.StepNotify, shared.OutcomeDone)})
		}
	}()
	var backup bytes.Buffer
	err = x.Backup(t.Context(), &backup)
	stop()
	<-written
	if err != nil {
		t.Fatal(err)
	}
	done, to, err := restore(t, backup.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if done.Index.ID != before.ID || done.Index.Epoch == before.Epoch || done.Backup.Index.Version < before.Version {
		t.Errorf("restored %+v from %+v", done, before)
	}
	y := openAt(t, to)
	got := contents(t, y)
	for key := range got { // what was written between the copy of contents and the backup
		if strings.Contains(key, "later") {
			delete(got, key)
		}
	}
	if len(got) < len(want)-200 || len(got) > len(want) {
		t.Errorf("%d keys, want about %d", len(got), len(want))
	}
	r, err := y.Messages("acme", []string{"m000010", "m000011"})
	if err != nil || r[0].Tombstone == nil || r[1].Tombstone != nil {
		t.Errorf("%+v %v", r, err)
	}
	page, err = y.Since(t.Context(), shared.SinceRequest{Tenant: "acme", After: page.Next})
	if err != nil || !page.Reset {
		t.Errorf("a cursor of the index that was backed up: %+v %v", page, err)
	}
	apply(t, y, put(message("new")))
}

func TestRestore_SameKeysAndValues(t *testing.T) {
	x := openNew(t)
	fill(t, x, 2000)
	var backup bytes.Buffer
	if err := x.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	_, to, err := restore(t, backup.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	y := openAt(t, to)
	if got, want := contents(t, y), contents(t, x); !reflect.DeepEqual(got, want) {
		t.Errorf("%d keys, want %d", len(got), len(want))
	}
	if err := y.Close(); err != nil {
		t.Fatal(err)
	}
	if y = openAt(t, to); y.Identity().Epoch == x.Identity().Epoch {
		t.Error("it has the epoch of the index that was backed up")
	}
}

func TestRestore_DamagedBackup(t *testing.T) {
	x := openNew(t)
	fill(t, x, 2000)
	var backup bytes.Buffer
	if err := x.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	whole := backup.Bytes()
	try := func(name string, data []byte) {
		if _, to, err := restore(t, data); err == nil {
			t.Errorf("%s: it was restored", name)
		} else if left, _ := filepath.Glob(to + "*"); len(left) > 0 {
			t.Errorf("%s: it left %v", name, left)
		}
	}
	for i := range 20 {
		at := len(whole) * i / 20
		flipped := bytes.Clone(whole)
		flipped[at] ^= 1
		try(fmt.Sprint("a bit flipped at ", at), flipped)
		try(fmt.Sprint("cut at ", at), whole[:at])
	}
	try("cut behind its keys", whole[:len(whole)-10])
	try("nothing of it", []byte("hello"))
}

func TestRestore_NeverReplaces(t *testing.T) {
	x := openNew(t)
	var backup bytes.Buffer
	if err := x.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	into := func(path string) error {
		_, err := Restore(t.Context(), bytes.NewReader(backup.Bytes()), path, hclog.NewNullLogger(), nil)
		return err
	}
	other := closedIndex(t, 200)
	if err := into(other); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("over an index: %v", err)
	}
	if err := os.RemoveAll(other); err != nil {
		t.Fatal(err)
	}
	if err := into(other); err == nil || !strings.Contains(err.Error(), other+".marker") {
		t.Errorf("where another index was: %v", err)
	}
}

func TestRestore_Places(t *testing.T) {
	x := openNew(t)
	apply(t, x, put(message("m")))
	var backup bytes.Buffer
	if err := x.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	into := func(path string) error {
		_, err := Restore(t.Context(), bytes.NewReader(backup.Bytes()), path, hclog.NewNullLogger(), nil)
		return err
	}
	t.Run("a link", func(t *testing.T) {
		dir := t.TempDir()
		disk, link := filepath.Join(dir, "disk"), filepath.Join(dir, "index")
		if err := errors.Join(os.Mkdir(disk, 0o700), os.Symlink(disk, link)); err != nil {
			t.Fatal(err)
		}
		if err := into(link); err != nil {
			t.Fatal(err)
		}
		if to, err := os.Readlink(link); err != nil || to != disk {
			t.Errorf("the link is now %q %v", to, err)
		}
		if y := openAt(t, disk); y.Identity().ID != x.Identity().ID {
			t.Error("the index is not where the link leads")
		}
	})
	t.Run("a link to nothing", func(t *testing.T) {
		link := filepath.Join(t.TempDir(), "index")
		if err := os.Symlink(link+"-gone", link); err != nil {
			t.Fatal(err)
		}
		if err := into(link); err == nil || !strings.Contains(err.Error(), "create that folder") {
			t.Errorf("%v", err)
		}
	})
	t.Run("the working folder", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "index")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Chdir(dir)
		if err := into("."); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(dir + ".marker"); err != nil {
			t.Errorf("no marker beside it: %v", err)
		}
	})
	t.Run("where another restore is under way", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "index")
		if err := os.Mkdir(path+".restoring", 0o700); err != nil {
			t.Fatal(err)
		}
		folder, err := os.Open(path + ".restoring")
		if err == nil {
			err = syscall.Flock(int(folder.Fd()), syscall.LOCK_EX)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := into(path); !errors.Is(err, ErrLocked) {
			t.Errorf("%v", err)
		}
		folder.Close()
		if err := into(path); err != nil {
			t.Errorf("what a killed one left is in the way: %v", err)
		}
	})
	t.Run("a disk that is too small", func(t *testing.T) {
		disk := t.TempDir()
		if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=4m"); err != nil {
			hosttest.Missing(t, "the right to mount a tmpfs: "+err.Error())
		}
		t.Cleanup(func() { _ = syscall.Unmount(disk, 0) })
		if err := into(filepath.Join(disk, "index")); !errors.Is(err, ErrDiskFull) {
			t.Errorf("%v", err)
		}
		if err := into(disk); err == nil || !strings.Contains(err.Error(), "mount point") {
			t.Errorf("a mount point: %v", err)
		}
	})
}
