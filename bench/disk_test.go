package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestFrame(t *testing.T) {
	records := []record{{[]byte("k1"), []byte("v1")}, {[]byte("k2"), nil}}
	b := appendFrame(appendFrame(nil, 7, records), 8, nil)
	r := bytes.NewReader(b)
	frame, err := readFrame(r)
	if err != nil {
		t.Fatal(err)
	}
	id, got, err := parseFrame(frame)
	if err != nil || id != 7 || len(got) != 2 || string(got[0].value) != "v1" || string(got[1].key) != "k2" {
		t.Errorf("%d, %q, %v", id, got, err)
	}
	for n := range frame {
		if _, _, err := parseFrame(frame[:n]); !errors.Is(err, errFrame) {
			t.Errorf("cut off after %d bytes: %v", n, err)
		}
	}
	if frame, err = readFrame(r); err != nil {
		t.Fatal(err)
	}
	if id, got, err := parseFrame(frame); id != 8 || len(got) != 0 || err != nil {
		t.Errorf("%d, %q, %v", id, got, err)
	}
}

// TestDisk_AcknowledgedIsThere kills the second process under callers and opens what it left.
func TestDisk_AcknowledgedIsThere(t *testing.T) {
	d := &disk{folder: filepath.Join(t.TempDir(), "disk")}
	if err := d.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var acknowledged []int64
	var callers sync.WaitGroup
	enough := make(chan struct{})
	for range 16 {
		callers.Go(func() {
			for {
				n := ids.Add(1)
				if err := d.write([]record{messageRecord(n)}); err != nil {
					return // it was killed
				}
				mu.Lock()
				if acknowledged = append(acknowledged, n); len(acknowledged) == 2000 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	<-enough
	if err := d.child.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	callers.Wait()
	d.reader.Wait()
	_ = d.child.cmd.Wait()

	c, err := newDiskCommitter(t.Context(), d.folder)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	txn := c.NewTransaction(false)
	defer txn.Discard()
	for _, n := range acknowledged {
		r := messageRecord(n)
		item, err := txn.Get(r.key)
		if err != nil {
			t.Fatalf("%s: %v", r.key, err)
		}
		if value, err := item.ValueCopy(nil); err != nil || !slices.Equal(value, r.value) {
			t.Fatalf("%s: %q, %v", r.key, value, err)
		}
	}
}

func TestDisk_StartsEmptyAgain(t *testing.T) {
	d := &disk{folder: filepath.Join(t.TempDir(), "disk"), size: 1000}
	if err := d.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := d.child.cmd.Process.Pid
	if _, err := d.index(4, 500).run(t.Context(), 10*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	d.written.Store(mostGrowth*d.size + 1)
	if err := d.renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d.written.Load() != d.size || d.child.cmd.Process.Pid == first {
		t.Errorf("%d messages in the same process", d.written.Load())
	}
	if err := d.close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(d.folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it left its folder: %v", err)
	}
}

func TestLogBytes_IsWhatBadgerWrites(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "disk")
	c, err := newDiskCommitter(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	end := func() int {
		n, err := logEnd(folder)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := c.commit([]diskCall{{1, []record{messageRecord(1)}}}); err != nil {
		t.Fatal(err)
	}
	before := end()
	if err := c.commit([]diskCall{{2, []record{messageRecord(2)}}}); err != nil {
		t.Fatal(err)
	}
	want := logBytes([]record{messageRecord(2), groupRecord(2, messagesFrom(2, 1))})
	if got := end() - before; got < want-4 || got > want+4 {
		t.Errorf("Badger wrote %d bytes, logBytes says %d", got, want)
	}
}
