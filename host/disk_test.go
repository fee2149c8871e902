package host_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/internal/natscluster/natstest"
	"github.com/chat-recall/recall/shared"
)

// smallDisk mounts a disk of 400 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=400m"); err != nil {
		hosttest.Missing(t, "the right to mount a tmpfs: "+err.Error())
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return disk
}

func TestFullDisk_WhileServing(t *testing.T) {
	disk := smallDisk(t)
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), t.TempDir())
	replaceIn(t, file, `"index"`, fmt.Sprintf("%q", filepath.Join(disk, "index")))
	h := hosttest.Open(t, host.Config{File: file})
	index(t, h, "m1")
	pid := h.State().PID
	stop, written := make(chan struct{}), make(chan []string)
	go func() { // so that a commit is always under way
		var known []string
		for i := 0; ; i++ {
			select {
			case <-stop:
				written <- known
				return
			default:
			}
			m := shared.Message{Tenant: "acme", ID: fmt.Sprint("w", i), Sender: "ann", Type: shared.TypeText,
				SentAt: time.Now().Add(-time.Second),
				Conversation: shared.Conversation{Type: shared.ConversationGroup,
					ID: "g"}, Labels: []string{strings.Repeat("x", shared.MaxLabelBytes)}}
			if r, err := h.Index(within(t), []shared.Message{m}); err == nil && r[0].Status == shared.IndexAdded {
				known = append(known, m.ID)
			}
		}
	}()
	fillDisk(t, disk, filepath.Join(disk, "full"))
	for {
		_, err := h.Index(within(t), []shared.Message{{Tenant: "acme", ID: fmt.Sprint(time.Now().UnixNano()), Sender: "ann",
			Type:   shared.TypeText,
			SentAt: time.Now().Add(-time.Second), Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"}}})
		if err != nil && strings.Contains(err.Error(), "disk nearly full") {
			break
		}
		if err != nil {
			t.Fatalf("a message on a full disk: %v", err)
		}
	}
	close(stop)
	known := append(<-written, "m1")
	if st := h.State(); st.PID != pid || st.Restarts != 0 {
		t.Errorf("the plugin ended on the full disk: %+v", st)
	}
	live := func(h *host.Host) {
		t.Helper()
		for _, id := range known {
			if got, err := h.Status(within(t), "acme", []string{id}); err != nil || got[0].State != shared.MessageLive {
				t.Fatalf("%s was acknowledged and is %v %v", id, got, err)
			}
		}
		if r, err := h.Check(within(t), recallOf("m1")); err != nil {
			t.Errorf("a check is answered %+v %v", r, err)
		}
	}
	live(h)
	h.Close()

	// A server that starts on the full disk answers reads.
	h = hosttest.Open(t, host.Config{File: file})
	live(h)
	_, err := h.Recall(within(t), recallOf("m1"))
	if err == nil || !strings.Contains(err.Error(), "disk nearly full") {
		t.Errorf("a recall on a full disk: %v", err)
	}
	if err := os.Remove(filepath.Join(disk, "full")); err != nil {
		t.Fatal(err)
	}
	for { // until the plugin has opened the index again
		_, err = h.Recall(within(t), recallOf("m1"))
		if err == nil {
			break
		}
		if !strings.Contains(err.Error(), "disk nearly full") {
			t.Fatalf("a recall once there is room: %v", err)
		}
	}
	known = known[:len(known)-1] // m1 is recalled
	live(h)
}

// TestFullDisk_Node fills the disk of one node of a cluster.
func TestFullDisk_Node(t *testing.T) {
	disk := smallDisk(t)
	servers := natstest.Start(t, 1, nil)
	other := startChatNode(t, servers, "n0", "replicas = 1")
	n := newChatNode(t, hosttest.BuildPlugin(t), servers, "n1", "replicas = 1")
	replaceIn(t, n.file, `"index"`, fmt.Sprintf("%q", filepath.Join(disk, "index")))
	n.open(t)
	index(t, n.Host, "before")
	fillDisk(t, disk, filepath.Join(disk, "full"))
	for i := 0; ; i++ {
		index(t, other.Host, fmt.Sprint("meanwhile", i)) // which cannot be applied on the full disk
		_, err := n.Index(within(t), []shared.Message{message(fmt.Sprint("here", i))})
		if err != nil && strings.Contains(err.Error(), "disk nearly full") {
			break
		}
	}
	if s, err := n.Status(within(t), "acme", []string{"before"}); err != nil || s[0].State == shared.MessageUnknown {
		t.Errorf("a status on a full disk: %+v %v", s, err)
	}
	if err := os.Remove(filepath.Join(disk, "full")); err != nil {
		t.Fatal(err)
	}
	for {
		_, err := n.Recall(within(t), recallOf("meanwhile0"))
		if err == nil {
			break
		}
		if !strings.Contains(err.Error(), "disk nearly full") {
			t.Fatalf("a recall once there is room: %v", err)
		}
	}
}
