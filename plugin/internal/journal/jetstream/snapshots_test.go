package jetstream

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/chat-recall/recall/internal/natscluster/natstest"
	"github.com/chat-recall/recall/plugin/internal/journal"
)

// randomBytes are bytes that no compression makes fewer.
func randomBytes(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.Read(data)
	return data
}

func storeSnapshot(t *testing.T, s *Stream, position uint64, data []byte) {
	t.Helper()
	w, err := s.CreateSnapshot(t.Context(), position)
	if err != nil {
		t.Fatal(err)
	}
	for part := data; len(part) > 0; {
		n := min(len(part), 100_000)
		if _, err := w.Write(part[:n]); err != nil {
			t.Fatal(err)
		}
		part = part[n:]
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
}

func listSnapshots(t *testing.T, s *Stream) []journal.Snapshot {
	t.Helper()
	all, err := s.Snapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func readSnapshot(t *testing.T, s *Stream, of journal.Snapshot) ([]byte, error) {
	t.Helper()
	r, err := s.OpenSnapshot(t.Context(), of)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// subjects are those of the object store that have messages.
func subjects(t *testing.T, s *Stream) (all []string) {
	t.Helper()
	stream, err := s.js.Stream(t.Context(), "OBJ_RECALL_SNAPSHOTS")
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(">"))
	if err != nil {
		t.Fatal(err)
	}
	for subject := range info.State.Subjects {
		all = append(all, subject)
	}
	return all
}

func TestSnapshots(t *testing.T) {
	s := open(t, options(t, natstest.Start(t, 1, nil), 1))
	if all := listSnapshots(t, s); len(all) != 0 {
		t.Errorf("before the first: %+v", all)
	}
	old, data := randomBytes(10), randomBytes(3*snapshotPartBytes+17)
	storeSnapshot(t, s, 7, old)
	storeSnapshot(t, s, 11, data)
	all := listSnapshots(t, s)
	if len(all) != 2 || all[0].Position != 11 || all[1].Position != 7 || all[0].Bytes != uint64(len(data)) ||
		time.Since(all[0].Taken) > time.Minute {
		t.Fatalf("%+v", all)
	}
	for i, want := range [][]byte{data, old} {
		if got, err := readSnapshot(t, s, all[i]); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
		}
	}
	t.Run("the tools of NATS read it", func(t *testing.T) {
		store, err := s.js.ObjectStore(t.Context(), "RECALL_SNAPSHOTS")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := store.GetBytes(t.Context(), all[0].Name); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
		}
	})
	t.Run("deleted", func(t *testing.T) {
		for range 2 {
			if err := s.DeleteSnapshot(t.Context(), all[1]); err != nil {
				t.Error(err)
			}
		}
		if left := listSnapshots(t, s); len(left) != 1 || left[0] != all[0] {
			t.Errorf("%+v", left)
		}
		if _, err := readSnapshot(t, s, all[1]); err == nil {
			t.Error("it is still read")
		}
		if left := subjects(t, s); len(left) != 2 {
			t.Errorf("%q", left)
		}
	})
	t.Run("killed on the way", func(t *testing.T) {
		w, err := s.CreateSnapshot(t.Context(), 20)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if left := listSnapshots(t, s); len(left) != 1 || left[0] != all[0] {
			t.Errorf("%+v", left)
		}
		if left := subjects(t, s); len(left) != 3 {
			t.Errorf("%q", left)
		}
		next, err := s.CreateSnapshot(t.Context(), 21)
		if err != nil {
			t.Fatal(err)
		}
		if left := subjects(t, s); len(left) != 2 {
			t.Errorf("what was left behind is still there: %q", left)
		}
		if _, err := next.Write(data); err != nil {
			t.Fatal(err)
		}
		next.Abort()
		if left := subjects(t, s); len(left) != 2 {
			t.Errorf("what was aborted is still there: %q", left)
		}
		if err := w.Commit(); err != nil { // it was not killed, and has lost its parts
			t.Fatal(err)
		}
		if left := listSnapshots(t, s); len(left) != 1 || left[0] != all[0] {
			t.Errorf("one without its parts: %+v", left)
		}
	})
	t.Run("damaged", func(t *testing.T) {
		store, err := s.js.ObjectStore(t.Context(), "RECALL_SNAPSHOTS")
		if err != nil {
			t.Fatal(err)
		}
		info, err := store.GetInfo(t.Context(), all[0].Name)
		if err != nil {
			t.Fatal(err)
		}
		parts := s.partsSubject(info.NUID)
		stream, err := s.js.Stream(t.Context(), "OBJ_RECALL_SNAPSHOTS")
		if err != nil {
			t.Fatal(err)
		}
		m, err := stream.GetMsg(t.Context(), 1, jetstream.WithGetMsgSubject(parts))
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.DeleteMsg(t.Context(), m.Sequence); err != nil {
			t.Fatal(err)
		}
		if left := listSnapshots(t, s); len(left) != 0 {
			t.Errorf("one without a part is listed: %+v", left)
		}
		if _, err := readSnapshot(t, s, all[0]); err == nil || !strings.Contains(err.Error(), "missing") {
			t.Errorf("one without a part: %v", err)
		}
		if _, err := s.js.PublishMsg(t.Context(), &nats.Msg{Subject: parts, Data: m.Data}); err != nil { // in another order
			t.Fatal(err)
		}
		if _, err := readSnapshot(t, s, all[0]); err == nil || !strings.Contains(err.Error(), "checksum") {
			t.Errorf("one that was changed: %v", err)
		}
	})
}

func TestSnapshots_AnotherLog(t *testing.T) {
	servers := natstest.Start(t, 1, nil)
	s := open(t, options(t, servers, 1))
	storeSnapshot(t, s, 7, []byte("x"))
	if err := s.js.DeleteStream(t.Context(), "RECALL"); err != nil {
		t.Fatal(err)
	}
	again := open(t, options(t, servers, 1))
	if all := listSnapshots(t, again); len(all) != 0 {
		t.Errorf("those of the log before: %+v", all)
	}
}

func TestSnapshots_StoreRefused(t *testing.T) {
	servers := natstest.Start(t, 1, nil)
	for _, c := range []struct {
		store jetstream.ObjectStoreConfig
		want  string
	}{
		{jetstream.ObjectStoreConfig{TTL: time.Hour}, "max_age 1h0m0s"},
		{jetstream.ObjectStoreConfig{}, "allow_direct true"}, // as nats.go creates it: any server answers reads
	} {
		o := options(t, servers, 1)
		o.Stream = strings.ToUpper(strings.Fields(c.want)[0])
		s := open(t, o)
		c.store.Bucket = o.Stream + "_SNAPSHOTS"
		if _, err := s.js.CreateObjectStore(t.Context(), c.store); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Snapshots(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

func TestTrim(t *testing.T) {
	s := open(t, options(t, natstest.Start(t, 1, nil), 1))
	for i := range 10 {
		if err := publish(t, s, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, upTo := range []uint64{4, 2, 4} { // again, and less, change nothing
		if err := s.Trim(t.Context(), upTo); err != nil {
			t.Fatal(err)
		}
		if first, err := s.First(t.Context()); err != nil || first != 5 {
			t.Errorf("it begins with %d, %v", first, err)
		}
	}
	if got := follow(t, s, 4, 6); got[0] != "5:4" {
		t.Errorf("%q", got)
	}
	if got := follow(t, s, 1, 6); got[0] != "5:4" { // and who follows sees that entries are missing
		t.Errorf("%q", got)
	}
	if err := s.Trim(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	if err := publish(t, s, "next"); err != nil {
		t.Fatal(err)
	}
	if got := follow(t, s, 10, 1); got[0] != "11:next" {
		t.Errorf("%q", got)
	}
}

// TestSnapshots_LeaderKilled stores, lists and reads a snapshot while servers are killed.
func TestSnapshots_LeaderKilled(t *testing.T) {
	servers := natstest.Start(t, 3, nil)
	s := open(t, options(t, servers, 3))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	data := randomBytes(8 * snapshotPartBytes)
	w, err := s.CreateSnapshot(ctx, 7)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		if i == 3 {
			killLeaderOf(t, s, servers, "OBJ_RECALL_SNAPSHOTS")
		}
		if _, err := w.Write(data[i*snapshotPartBytes : (i+1)*snapshotPartBytes]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	all := listSnapshots(t, s)
	if len(all) != 1 {
		t.Fatalf("%+v", all)
	}
	r, err := s.OpenSnapshot(ctx, all[0])
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 3*snapshotPartBytes)
	if _, err := io.ReadFull(r, got); err != nil {
		t.Fatal(err)
	}
	killLeaderOf(t, s, servers, "OBJ_RECALL_SNAPSHOTS")
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(append(got, rest...), data) {
		t.Errorf("%d bytes, %v", len(got)+len(rest), err)
	}
}
