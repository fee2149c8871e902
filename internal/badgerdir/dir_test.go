package badgerdir

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/shared"
)

func TestCommit_FailedSync(t *testing.T) {
	d := openNew(t)
	mustPut(t, d, 0, 1)
	d.commitAt = func(txn *badger.Txn, version uint64) error {
		return errors.Join(txn.CommitAt(version, nil), syscall.EIO) // in the memtable, and nobody knows whether on disk
	}
	err := put(d, 1, 2)
	if !errors.Is(err, syscall.EIO) || !errors.Is(err, shared.ErrUnavailable) || !strings.Contains(err.Error(), d.path) {
		t.Fatalf("%v", err)
	}
	for name, call := range map[string]func() error{
		"Commit":  func() error { return put(d, 2, 3) },
		"Failure": d.Failure,
		"View":    func() error { _, err := has(d, 1); return err },
	} {
		if err := call(); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s after a failed commit: %v", name, err)
		}
	}
}

func TestCommit_NotVisibleBeforeItIsOnDisk(t *testing.T) {
	d := openNew(t)
	commit, entered, gate := d.commitAt, make(chan struct{}), make(chan struct{})
	d.commitAt = func(txn *badger.Txn, version uint64) error {
		err := commit(txn, version)
		close(entered)
		<-gate
		return err
	}
	done := make(chan error)
	go func() { done <- put(d, 0, 1) }()
	<-entered
	if found, err := has(d, 0); err != nil || found {
		t.Errorf("before its commit returned: %v %v", found, err)
	}
	close(gate)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if found, err := has(d, 0); err != nil || !found {
		t.Errorf("after it: %v %v", found, err)
	}
}

func TestCommit_NearlyFullDisk(t *testing.T) {
	d := openNew(t)
	now, free := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC), uint64(255<<20)
	d.space.now = func() time.Time { return now }
	d.space.free = func(string) (uint64, error) { return free, nil }
	err := put(d, 0, 1)
	if !errors.Is(err, ErrDiskFull) || errors.Is(err, shared.ErrUnavailable) ||
		!strings.Contains(err.Error(), "255 MiB free in "+d.path+", at least 256 needed") {
		t.Fatalf("%v", err)
	}
	free = 256 << 20
	if err := put(d, 0, 1); !errors.Is(err, ErrDiskFull) {
		t.Errorf("within the second: %v", err)
	}
	now = now.Add(-time.Hour) // a clock that jumps back must not keep the last answer for an hour
	mustPut(t, d, 0, 1)
	if err := d.Failure(); err != nil {
		t.Errorf("a full disk is no reason to start anew: %v", err)
	}
}

func TestClose_RefusesLaterCalls(t *testing.T) {
	d := openNew(t)
	mustPut(t, d, 0, 1)
	for range 2 {
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := has(d, 0); !errors.Is(err, ErrClosed) {
		t.Errorf("View: %v", err)
	}
	if err := put(d, 1, 2); !errors.Is(err, ErrClosed) {
		t.Errorf("Commit: %v", err)
	}
	d.ZeroAhead()
}
