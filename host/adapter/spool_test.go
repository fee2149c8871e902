package adapter_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

func text(id string) shared.Message {
	return shared.Message{Tenant: "acme", ID: id, Conversation: team, Sender: "ann", Type: shared.TypeText,
		SentAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
}

// readAll reads a spool to its end.
func readAll(t *testing.T, s *adapter.Spool) (ids []string) {
	t.Helper()
	for after := ""; ; {
		page, err := s.Read(t.Context(), after)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Items {
			ids = append(ids, m.ID)
		}
		if after = page.Next; !page.More {
			return ids
		}
	}
}

func openSpool(t *testing.T, dir string) *adapter.Spool {
	t.Helper()
	s, err := adapter.OpenSpool(dir, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func add(t *testing.T, s *adapter.Spool, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := s.Add(text(id)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSpool_OpenedAgain(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir)
	for i := range 1200 {
		add(t, s, fmt.Sprint(i))
	}
	if _, err := adapter.OpenSpool(dir, nil); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("opened twice: %v", err)
	}
	page, err := s.Read(t.Context(), "")
	if err != nil || len(page.Items) == 0 || !page.More {
		t.Fatal(len(page.Items), page.More, err)
	}
	if err := s.Handled(); err != nil {
		t.Fatal(err)
	}
	if again, err := s.Read(t.Context(), page.Next); err != nil || len(again.Items) == 0 {
		t.Fatal(err) // and not handled
	}
	s.Close()
	s = openSpool(t, dir)
	rest := readAll(t, s)
	if got := len(page.Items) + len(rest); got != 1200 || rest[0] != fmt.Sprint(len(page.Items)) {
		t.Errorf("%d messages, then %s", got, rest[0])
	}
	if s.Empty() {
		t.Error("empty before they are handled")
	}
	if err := s.Handled(); err != nil || !s.Empty() {
		t.Error("not empty: ", err)
	}
	if info, err := os.Stat(filepath.Join(dir, "spool")); err != nil || info.Size() > 100 {
		t.Errorf("the file of an empty spool has %d bytes, %v", info.Size(), err)
	}
	add(t, s, "last")
	s.Close()
	if ids := readAll(t, openSpool(t, dir)); strings.Join(ids, " ") != "last" {
		t.Errorf("got %q", ids)
	}
}

// Whatever a crash or a disk leaves at the end of the file, or in it, costs the lines that it hit alone.
func TestSpool_Damaged(t *testing.T) {
	const all = "m0 m1 m2 m3 m4"
	write := func(t *testing.T) (dir, path string, content []byte) {
		dir = t.TempDir()
		s := openSpool(t, dir)
		add(t, s, "gone", "m0", "m1", "m2", "m3", "m4")
		s.Close()
		path = filepath.Join(dir, "spool")
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return dir, path, content
	}
	_, _, whole := write(t)
	for at := range whole {
		if at%5 != 0 && whole[at] != '\n' {
			continue
		}
		for _, cut := range []bool{true, false} {
			dir, path, content := write(t)
			if cut {
				content = content[:at]
			} else {
				content[at] ^= 1
			}
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := adapter.OpenSpool(dir, nil)
			if err != nil {
				if at > 12 || cut {
					t.Errorf("at %d, cut %t: %v", at, cut, err)
				}
				continue // the word by which it is known
			}
			ids := strings.Join(readAll(t, s), " ")
			if err := s.Handled(); err != nil {
				t.Error(err)
			}
			s.Close()
			lines := strings.Count(string(content[:at]), "\n") - 1 // that are whole before the place
			lost := 6 - len(strings.Fields(ids))
			if cut && lost != 6-max(lines, 0) || !cut && (lost > 2 || lines >= 0 && lost == 0) || lines >= 2 && !cut &&
				!strings.HasPrefix(ids, "gone m0") { // a flipped end of line joins two
				t.Errorf("at %d, cut %t: %q of %q", at, cut, ids, all)
			}
			if _, err := os.Stat(filepath.Join(dir, "damaged")); !cut && lines >= 0 && err != nil {
				t.Errorf("at %d: what is damaged is not kept: %v", at, err)
			}
		}
	}
}

func TestSpool_NoSpool(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "spool")
	if err := os.WriteFile(path, []byte("something else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := adapter.OpenSpool(dir, nil); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a file that is no spool: %v", err)
	}
}

// Two ids that JSON would make one are refused, and not spooled as that.
func TestSpool_NotUTF8(t *testing.T) {
	s := openSpool(t, t.TempDir())
	if err := s.Add(text("a"), text("a\xff")); err == nil || !strings.Contains(err.Error(), "messages[1].id") {
		t.Error(err)
	}
	if !s.Empty() {
		t.Error("half of the call is spooled")
	}
}

// A page of large messages is small enough for one call.
func TestSpool_LargeMessages(t *testing.T) {
	s := openSpool(t, t.TempDir())
	m := text("m")
	for i := range shared.MaxAttachments {
		m.Attachments = append(m.Attachments, shared.Attachment{Key: fmt.Sprint(i, strings.Repeat("k", 2000))})
	}
	for range 20 {
		if err := s.Add(m); err != nil {
			t.Fatal(err)
		}
	}
	page, err := s.Read(t.Context(), "")
	if err != nil || !page.More || len(page.Items) < 2 || len(page.Items) > 10 {
		t.Errorf("%d messages of 200 kB, more %t, %v", len(page.Items), page.More, err)
	}
}

// A full disk refuses new messages, loses none, and is no reason not to empty the spool.
func TestSpool_FullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		hosttest.Missing(t, "the right to mount a tmpfs: "+err.Error())
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	s := openSpool(t, filepath.Join(dir, "spool"))
	kept := 0
	for ; kept < 10_000; kept++ {
		if err := s.Add(text(fmt.Sprint(kept))); err != nil {
			break
		}
	}
	if kept == 0 || kept == 10_000 {
		t.Fatalf("%d messages on a disk of 64 kB", kept)
	}
	if ids := readAll(t, s); len(ids) != kept || ids[kept-1] != fmt.Sprint(kept-1) {
		t.Errorf("%d messages are kept, %d acknowledged", len(ids), kept)
	}
	if err := s.Handled(); err != nil || !s.Empty() {
		t.Fatal("not emptied: ", err)
	}
	add(t, s, "after")
}
