package convert

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/journal"
	"github.com/chat-recall/recall/plugin/internal/journal/journaltest"
	"github.com/chat-recall/recall/plugin/internal/journal/snapshottest"
	"github.com/chat-recall/recall/shared"
)

// memoryLog is the log of a cluster in memory.
type memoryLog struct {
	*snapshottest.Stream
	*journaltest.NodeBeats
}

func (memoryLog) ID() string { return "log" }

func newMemoryLog() (memoryLog, *journaltest.Beats) {
	beats := journaltest.NewBeats()
	return memoryLog{snapshottest.NewStream(), beats.Of("tool")}, beats
}

// said is the progress that was reported.
type said []string

func (s *said) say(format string, args ...any) { *s = append(*s, fmt.Sprintf(format, args...)) }

func openIndex(t *testing.T, path string) *index.Index {
	t.Helper()
	x, err := index.Open(t.Context(), index.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

func put(i int) index.Op {
	return index.Op{Put: &shared.Message{
		Tenant: "acme", ID: fmt.Sprint("m", i), Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"},
		Sender: "ann", Type: shared.TypeText, SentAt: time.UnixMilli(1),
	}}
}

func singleMachine(t *testing.T) *index.Index {
	t.Helper()
	x := openIndex(t, filepath.Join(t.TempDir(), "single"))
	for i := range 20 {
		if _, err := x.Apply([][]index.Op{{put(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

func TestToCluster(t *testing.T) {
	x := singleMachine(t)
	log, _ := newMemoryLog()
	var s said
	for _, stage := range []string{"create", "write", "commit", "list", "open", "read"} {
		log.BreakSnapshots(func(is string) error {
			if is == stage {
				return errors.New("no leader")
			}
			return nil
		})
		if _, err := ToCluster(t.Context(), x, log, []string{"n0"}, s.say); err == nil ||
			!strings.Contains(err.Error(), "no leader") {
			t.Errorf("%s: %v", stage, err)
		}
	}
	log.BreakSnapshots(nil)
	done, err := ToCluster(t.Context(), x, log, []string{"n0"}, s.say)
	if err != nil || done.Stored || done.Messages != 20 || done.Position != x.Identity().Version {
		t.Errorf("%+v %v; it was stored before, and could not be read", done, err)
	}
	all, err := log.Snapshots(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("%+v %v", all, err)
	}
	t.Run("what is stored is not what was to be", func(t *testing.T) {
		var kept []byte
		log.ChangeSnapshot(all[0], func(data []byte) []byte {
			kept = slices.Clone(data)
			data[len(data)/2] ^= 1
			return data
		})
		defer log.ChangeSnapshot(all[0], func([]byte) []byte { return kept })
		if _, err := ToCluster(t.Context(), x, log, []string{"n0"}, s.say); err == nil ||
			!strings.Contains(err.Error(), "verify the snapshot") {
			t.Errorf("%v", err)
		}
	})
	t.Run("what is stored is another index", func(t *testing.T) {
		other := singleMachine(t)
		if _, err := other.Apply([][]index.Op{{put(99)}}); err != nil {
			t.Fatal(err)
		}
		var data bytes.Buffer
		if _, err := other.SnapshotForCluster(t.Context(), "log", []string{"n0"}, &data, nil); err != nil {
			t.Fatal(err)
		}
		var kept []byte
		log.ChangeSnapshot(all[0], func(was []byte) []byte {
			kept = slices.Clone(was)
			return data.Bytes()
		})
		defer log.ChangeSnapshot(all[0], func([]byte) []byte { return kept })
		if _, err := ToCluster(t.Context(), x, log, []string{"n0"}, s.say); err == nil ||
			!strings.Contains(err.Error(), "it has 21 messages") {
			t.Errorf("%v", err)
		}
	})
	t.Run("the cluster is in use", func(t *testing.T) {
		w, err := log.CreateSnapshot(t.Context(), all[0].Position+1000)
		if err == nil {
			err = errors.Join(w.Commit(), log.DeleteSnapshot(t.Context(), all[0]))
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ToCluster(t.Context(), x, log, []string{"n0"}, s.say); err == nil ||
			!strings.Contains(err.Error(), "in use") {
			t.Errorf("%v", err)
		}
	})
}

// TestToSingle_RunningNode makes a single machine of the index of a node, of whose cluster another node may run.
func TestToSingle_RunningNode(t *testing.T) {
	log, beats := newMemoryLog()
	x := openIndex(t, filepath.Join(t.TempDir(), "n0"))
	if err := x.Follow(t.Context(), "log", "n0"); err != nil {
		t.Fatal(err)
	}
	other := openIndex(t, filepath.Join(t.TempDir(), "n1"))
	if err := other.Follow(t.Context(), "log", "n1"); err != nil {
		t.Fatal(err)
	}
	r := journal.NewReplicated(other, journal.ReplicatedOptions{Node: "n1", Stream: log})
	defer r.Close()
	joined, err := r.Join(t.Context(), index.Member{Instance: "n1", Format: journal.EntryFormat})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Append(t.Context(), []index.Op{put(1)}); err != nil {
		t.Fatal(err)
	}
	cluster := &Cluster{Log: log, Node: "n0", Lease: 20 * time.Millisecond}
	to := func(name string) string { return filepath.Join(t.TempDir(), name) }
	t.Run("heard", func(t *testing.T) {
		say := func(string, ...any) { // that it waits
			if err := beats.Of("n1").Send([]byte(`{"node":"n1"}`)); err != nil {
				t.Error(err)
			}
		}
		waiting := *cluster
		waiting.Lease = time.Hour
		if _, err := ToSingle(t.Context(), x, &waiting, to("heard"), say); err == nil ||
			!strings.Contains(err.Error(), "the node n1 runs") {
			t.Errorf("%v", err)
		}
	})
	t.Run("silent for its lease", func(t *testing.T) {
		var s said
		done, err := ToSingle(t.Context(), x, cluster, to("silent"), s.say)
		waited := strings.Contains(strings.Join(s, "\n"), "n1 did not leave")
		if err != nil || !done.CaughtUp || done.Messages != 1 || !waited {
			t.Errorf("%+v %v %q", done, err, s)
		}
	})
	if err := r.Leave(t.Context(), joined, time.Time{}, true); err != nil {
		t.Fatal(err)
	}
	t.Run("left", func(t *testing.T) {
		var s said
		waiting := *cluster
		waiting.Lease = time.Hour
		if done, err := ToSingle(t.Context(), x, &waiting, to("left"), s.say); err != nil || done.Messages != 1 {
			t.Errorf("%+v %v", done, err)
		}
	})
	t.Run("starts meanwhile", func(t *testing.T) {
		sent := false
		folder := to("meanwhile")
		say := func(format string, args ...any) {
			if !sent && strings.Contains(fmt.Sprintf(format, args...), "verified") {
				sent = true
				_ = beats.Of("n1").Send([]byte(`{"node":"n1"}`))
			}
		}
		if _, err := ToSingle(t.Context(), x, cluster, folder, say); err == nil || !sent {
			t.Errorf("nobody noticed: %v, %v", err, sent)
		}
	})
	t.Run("without the servers", func(t *testing.T) {
		var s said
		done, err := ToSingle(t.Context(), x, nil, to("offline"), s.say)
		if err != nil || done.CaughtUp || done.Position != x.Log().Position {
			t.Errorf("%+v %v", done, err)
		}
	})
}
