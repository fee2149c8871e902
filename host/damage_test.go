package host_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

// place is a folder with a plugin.hcl and its index, in which hosts are opened one after the other.
type place struct {
	t    *testing.T
	dir  string
	file string
	run  string
}

func newPlace(t *testing.T) *place {
	dir := t.TempDir()
	return &place{t: t, dir: dir, file: hosttest.WriteConfig(t, hosttest.BuildPlugin(t), dir), run: hosttest.RunDir(t)}
}

func (p *place) index() string { return filepath.Join(p.dir, "index") }

func (p *place) open() (*host.Host, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	return host.Open(ctx, host.Config{File: p.file, RunDir: p.run})
}

func (p *place) mustOpen() *host.Host {
	p.t.Helper()
	h, err := p.open()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { h.Close() })
	return h
}

// recalls is recallAll.
func (p *place) recalls(h *host.Host, ids ...string) {
	p.t.Helper()
	recallAll(p.t, h, ids...)
}

// recallAll indexes messages of the group g and recalls each of them, m under r-m.
func recallAll(t *testing.T, h *host.Host, ids ...string) {
	t.Helper()
	for _, id := range ids {
		m := shared.Message{Tenant: "acme", ID: id, Sender: "ann", Type: shared.TypeText,
			SentAt:       time.Now().Add(-time.Second),
			Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"}}
		if _, err := h.Index(t.Context(), []shared.Message{m}); err != nil {
			t.Fatal(err)
		}
		req := recallOf(id)
		req.RecallID = "r-" + id
		r, err := h.Recall(t.Context(), req)
		if err != nil || r[0].Status != shared.StatusRecalled {
			t.Fatal(r, err)
		}
	}
}

// freeze copies the folder of the index as it is while the plugin stands still.
func (p *place) freeze(h *host.Host) string {
	p.t.Helper()
	hosttest.Hang(p.t, h)
	to := filepath.Join(p.t.TempDir(), "copy")
	err := os.CopyFS(to, os.DirFS(p.index()))
	hosttest.Continue(p.t, h)
	if err != nil {
		p.t.Fatal(err)
	}
	return to
}

// thaw puts a copy in the place of the index.
func (p *place) thaw(copied string) {
	p.t.Helper()
	if err := errors.Join(os.RemoveAll(p.index()), os.CopyFS(p.index(), os.DirFS(copied))); err != nil {
		p.t.Fatal(err)
	}
}

func TestOpen_LostLog(t *testing.T) {
	p := newPlace(t)
	h := p.mustOpen()
	p.recalls(h, "m")
	copied := p.freeze(h)
	h.Close()
	logs, err := filepath.Glob(filepath.Join(copied, "*.mem"))
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	for _, log := range logs {
		if err := os.Remove(log); err != nil {
			t.Fatal(err)
		}
	}
	p.thaw(copied)
	if h, err := p.open(); !errors.Is(err, shared.ErrDamaged) || !strings.Contains(err.Error(), "are missing") {
		t.Errorf("%v", err)
		if h != nil {
			h.Close()
		}
	}
}

func TestOpen_MissingIndex(t *testing.T) {
	p := newPlace(t)
	h := p.mustOpen()
	p.recalls(h, "m")
	h.Close()
	moved := filepath.Join(p.dir, "moved")
	if err := os.Mkdir(moved, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"index", "index.marker"} { // as a disk that is not mounted
		if err := os.Rename(filepath.Join(p.dir, name), filepath.Join(moved, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.open(); !errors.Is(err, shared.ErrDamaged) || !strings.Contains(err.Error(), "create = true") {
		t.Errorf("the host begins an empty index: %v", err)
	}
	text, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	create := strings.Replace(string(text), `path = "index"`, "path = \"index\"\n  create = true", 1)
	if err := os.WriteFile(p.file, []byte(create), 0o600); err != nil {
		t.Fatal(err)
	}
	p.mustOpen().Close()
	if err := os.WriteFile(p.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	p.mustOpen().Close()
}

func TestOpen_RestoredCopyBeginsAnEpoch(t *testing.T) {
	p := newPlace(t)
	h := p.mustOpen()
	p.recalls(h, "a1", "a2")
	h.Close()
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(p.index())); err != nil {
		t.Fatal(err)
	}
	h = p.mustOpen()
	p.recalls(h, "b1", "b2")
	page, err := h.Since(t.Context(), shared.SinceRequest{Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	before := h.State().Index
	h.Close()
	p.thaw(backup)
	h = p.mustOpen()
	p.recalls(h, "c1", "c2", "c3")
	req := shared.SinceRequest{Tenant: "acme",
		Conversations: []shared.Conversation{{Type: shared.ConversationGroup, ID: "g"}},
		After:         page.Next}
	if page, err := h.Since(t.Context(), req); err != nil || !page.Reset {
		t.Errorf("a cursor from before: %+v %v", page, err)
	}
	if now := h.State().Index; now.ID != before.ID || now.Epoch == before.Epoch {
		t.Errorf("the index was %+v and is %+v", before, now)
	}
}

// A disk that is set back as a whole takes the marker beside the index along: only the server remembers more.
func TestOpen_RestoredWithItsMarker(t *testing.T) {
	p := newPlace(t)
	h := p.mustOpen()
	p.recalls(h, "a")
	h.Close()
	backup := filepath.Join(t.TempDir(), "backup")
	marker, err := os.ReadFile(p.index() + ".marker")
	if err := errors.Join(err, os.CopyFS(backup, os.DirFS(p.index()))); err != nil {
		t.Fatal(err)
	}
	h = p.mustOpen()
	p.recalls(h, "b1", "b2")
	page, err := h.Since(t.Context(), shared.SinceRequest{Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	p.thaw(backup)
	if err := os.WriteFile(p.index()+".marker", marker, 0o600); err != nil {
		t.Fatal(err)
	}
	h = p.mustOpen()
	p.recalls(h, "c1", "c2", "c3")
	if page, err := h.Since(t.Context(), shared.SinceRequest{Tenant: "acme", After: page.Next}); err != nil ||
		!page.Reset {
		t.Errorf("a cursor from before: %+v %v", page, err)
	}
}

func TestOpen_LastUsedDamaged(t *testing.T) {
	p := newPlace(t)
	h := p.mustOpen()
	p.recalls(h, "m")
	h.Close()
	memory := filepath.Join(p.run, "last-used.json")
	for _, text := range []string{"", `{"index":{"id":"abc","epoch":5}}`, "[]"} {
		if err := os.WriteFile(memory, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p.mustOpen().Close()
	}
	if err := os.WriteFile(memory, []byte(`{"index":{"id":"abc","epoch":"def","version":1}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.open(); !errors.Is(err, shared.ErrDamaged) || !strings.Contains(err.Error(), "last-used.json") {
		t.Errorf("what the server remembers is another index: %v", err)
	}
}

// To open a pipe waits until somebody writes to it.
func TestOpen_PipeInPlaceOfAFile(t *testing.T) {
	p := newPlace(t)
	h := p.mustOpen()
	p.recalls(h, "m")
	h.Close()
	p.mustOpen().Close() // with a list of verified tables
	table := filepath.Base(p.tables()[0])
	for _, name := range []string{"index/MARKER", "index.marker", "index/MANIFEST", "index/KEYREGISTRY", "index/" + table,
		"index/00099.mem"} {
		p.openPipe(filepath.Join(p.dir, name), true)
	}
	p.openPipe(filepath.Join(p.run, "last-used.json"), true)
	p.openPipe(filepath.Join(p.index(), "VERIFIED"), false)
}

// openPipe opens a host while a named pipe lies in the place of a file.
func (p *place) openPipe(path string, refused bool) {
	p.t.Helper()
	aside := filepath.Join(p.t.TempDir(), "aside")
	moved := os.Rename(path, aside) == nil
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		p.t.Fatal(err)
	}
	h, err := p.open()
	if err == nil {
		h.Close()
	}
	if refused &&
		(err == nil || !strings.Contains(err.Error(), filepath.Base(path)) || errors.Is(err, context.DeadlineExceeded)) {
		p.t.Errorf("%s: %v", path, err)
	}
	if !refused && err != nil {
		p.t.Errorf("%s: %v", path, err)
	}
	if err := os.RemoveAll(path); err != nil {
		p.t.Fatal(err)
	}
	if moved {
		if err := os.Rename(aside, path); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *place) tables() []string {
	p.t.Helper()
	tables, err := filepath.Glob(filepath.Join(p.index(), "*.sst"))
	if err != nil || len(tables) == 0 {
		p.t.Fatal(tables, err)
	}
	return tables
}

// damageTables flips a bit in every block of every table.
func (p *place) damageTables() {
	p.t.Helper()
	for _, table := range p.tables() {
		data, err := os.ReadFile(table)
		if err != nil {
			p.t.Fatal(err)
		}
		for i := 100; i < len(data)*9/10; i += 1000 {
			data[i] ^= 1
		}
		if err := os.WriteFile(table, data, 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
}

func TestOpen_DamagedTable(t *testing.T) {
	p := newPlace(t)
	h := p.mustOpen()
	p.recalls(h, "m")
	h.Close()
	p.damageTables()
	_, err := p.open()
	if !errors.Is(err, shared.ErrDamaged) || !strings.Contains(err.Error(), ".sst at byte ") ||
		!strings.Contains(err.Error(), "backup") {
		t.Errorf("%v", err)
	}
}

func TestRunning_DamagedTable(t *testing.T) {
	p := newPlace(t)
	h := p.mustOpen()
	p.recalls(h, "m")
	h.Close()
	h = p.mustOpen()
	p.damageTables()
	deadline := time.Now().Add(time.Minute)
	for !h.State().Damaged {
		status, err := h.Status(t.Context(), "acme", []string{"m"})
		if err == nil && status[0].State != shared.MessageRecalled {
			t.Fatalf("a recalled message of a damaged index is %s", status[0].State)
		}
		if time.Now().After(deadline) {
			t.Fatalf("the state does not show the damage: %+v", h.State())
		}
	}
	st := h.State()
	if st.Phase != host.PhaseFailed || !strings.Contains(st.Error, ".sst at byte ") {
		t.Errorf("%+v", st)
	}
	if _, err := h.Status(t.Context(), "acme", []string{"m"}); !errors.Is(err, shared.ErrDamaged) ||
		!errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("a call is answered %v", err)
	}
	metrics, err := h.Metrics(t.Context())
	if err != nil || !hasMetric(metrics,
		shared.Metric{Name: "recall_host_index_damaged", Kind: shared.MetricGauge, Value: 1}) {
		t.Errorf("%v %v", metrics, err)
	}
}

// waitDamaged indexes messages until the index is known to be damaged, and returns the number of those that were taken.
func (p *place) waitDamaged(h *host.Host, prefix string) (taken int) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		m := shared.Message{Tenant: "acme", ID: fmt.Sprint(prefix, taken), Sender: "ann", Type: shared.TypeText,
			SentAt:       time.Now(),
			Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"}}
		if _, err := h.Index(p.t.Context(), []shared.Message{m}); err == nil {
			taken++
		} else if !errors.Is(err, shared.ErrDamaged) {
			p.t.Fatal(err)
		}
		if h.State().Damaged {
			return taken
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the state does not show the damage: %+v", h.State())
		}
	}
}

func TestRunning_IndexMovedOrReplaced(t *testing.T) {
	for name, replace := range map[string]func(path, away string) error{
		"moved": func(path, away string) error { return os.Rename(path, away) },
		"replaced by nothing": func(path, away string) error {
			return errors.Join(os.Rename(path, away), os.Mkdir(path,
				0o700))
		},
		"replaced by its copy": func(path, away string) error {
			return errors.Join(os.Rename(path, away), os.CopyFS(path, os.DirFS(away)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			h := p.mustOpen()
			p.recalls(h, "m")
			away := filepath.Join(p.dir, "away")
			if err := replace(p.index(), away); err != nil {
				t.Fatal(err)
			}
			if n := p.waitDamaged(h, "late-"); n > 0 {
				t.Errorf("%d messages went into the folder that was moved away", n)
			}
			h.Close()
			if err := errors.Join(os.RemoveAll(p.index()), os.Rename(away, p.index())); err != nil {
				t.Fatal(err)
			}
			h = p.mustOpen()
			if status, err := h.Status(t.Context(), "acme", []string{"m"}); err != nil ||
				status[0].State != shared.MessageRecalled {
				t.Errorf("put back: %+v %v", status, err)
			}
		})
	}
}

func TestRunning_LogRemoved(t *testing.T) {
	p := newPlace(t)
	h := p.mustOpen()
	p.recalls(h, "m")
	logs, err := filepath.Glob(filepath.Join(p.index(), "*.mem"))
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	for _, log := range logs {
		if err := os.Remove(log); err != nil {
			t.Fatal(err)
		}
	}
	if n := p.waitDamaged(h, "late-"); n > 0 {
		t.Errorf("%d messages went into a log that is gone", n)
	}
}

// heldWriter is a writer that is slow: a write ends when it is released.
type heldWriter struct{ began, release chan struct{} }

func (w *heldWriter) Write(p []byte) (int, error) {
	w.began <- struct{}{}
	<-w.release
	return len(p), nil
}

func TestBackup_HoldsUpNoCallAfterCrashes(t *testing.T) {
	p := newPlace(t)
	h := p.mustOpen()
	for n := 1; n <= 4; n++ { // after which one call is let in at first
		hosttest.Kill(t, h)
		eventually(t, "the plugin is started again", func() bool { return h.State().Restarts == n })
	}
	w := &heldWriter{began: make(chan struct{}, 1), release: make(chan struct{})}
	backup := make(chan error, 1)
	go func() { backup <- h.Backup(within(t), w) }()
	<-w.began
	if _, err := h.Status(within(t), "acme", []string{"m"}); err != nil {
		t.Errorf("a call beside a slow backup: %v", err)
	}
	go func() {
		for range w.began {
		}
	}()
	close(w.release)
	if err := <-backup; err != nil {
		t.Error(err)
	}
	close(w.began)
}

func TestBackup_Restore(t *testing.T) {
	p := newPlace(t)
	h := p.mustOpen()
	p.recalls(h, "m1", "m2")
	var backup bytes.Buffer
	if err := h.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	p.recalls(h, "m3")
	id := h.State().Index
	h.Close()
	file := filepath.Join(p.dir, "backup")
	if err := errors.Join(os.WriteFile(file, backup.Bytes(), 0o600), os.RemoveAll(p.index())); err != nil {
		t.Fatal(err)
	}
	if _, stderr, err := hosttest.RunPlugin(t, "index", "restore", file, p.index()); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	h = p.mustOpen()
	status, err := h.Status(t.Context(), "acme", []string{"m1", "m2", "m3"})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%s %s %s", status[0].State, status[1].State,
		status[2].State); got != "recalled recalled unknown" {
		t.Errorf("%s", got)
	}
	if now := h.State().Index; now.ID != id.ID || now.Epoch == id.Epoch {
		t.Errorf("the index was %+v and is %+v", id, now)
	}
}

// stuckWriter takes nothing until it is let go.
type stuckWriter struct {
	began   chan struct{}
	release chan struct{}
	begin   sync.Once
}

func (w *stuckWriter) Write(p []byte) (int, error) {
	w.begin.Do(func() { close(w.began) })
	<-w.release
	return len(p), nil
}

func TestBackup_WriterStuck(t *testing.T) {
	p := newPlace(t)
	h := p.mustOpen()
	for i := range 100 { // more than the connection holds
		m := shared.Message{Tenant: "acme", ID: fmt.Sprint(i), Sender: "ann", Type: shared.TypeText, SentAt: time.Now(),
			Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"}}
		for k := range shared.MaxAttachments {
			m.Attachments = append(m.Attachments, shared.Attachment{Key: fmt.Sprintf("%d-%01000d", i, k)})
		}
		if _, err := h.Index(t.Context(), []shared.Message{m}); err != nil {
			t.Fatal(err)
		}
	}
	backup := func() (*stuckWriter, chan error) {
		w, done := &stuckWriter{began: make(chan struct{}), release: make(chan struct{})}, make(chan error, 1)
		go func() { done <- h.Backup(t.Context(), w) }()
		<-w.began
		return w, done
	}
	cutOff := func(w *stuckWriter, done chan error) {
		t.Helper()
		close(w.release)
		err := <-done
		if !errors.Is(err, shared.ErrUnavailable) || !strings.Contains(err.Error(), "discard it and start again") {
			t.Errorf("a backup that was cut off: %v", err)
		}
	}
	w, done := backup()
	p.recalls(h, "beside")
	hosttest.Kill(t, h)
	p.recalls(h, "after the kill")
	cutOff(w, done)
	w, done = backup()
	if _, err := h.Upgrade(t.Context(), host.Binary{Path: hosttest.BuildPlugin(t)}); err != nil {
		t.Fatal(err)
	}
	p.recalls(h, "after the upgrade")
	cutOff(w, done)
	if err := h.Backup(t.Context(), io.Discard); err != nil {
		t.Error(err)
	}
}

func TestIndexFiles_OnlyForTheirOwner(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0)) // the plugin inherits it
	p := newPlace(t)
	h := p.mustOpen()
	p.recalls(h, "m")
	h.Close()
	h = p.mustOpen() // with tables
	for _, root := range []string{p.index(), p.index() + ".marker", p.index() + ".policy"} {
		err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			want := os.FileMode(0o600)
			if e.IsDir() {
				want = 0o700
			}
			if got := info.Mode().Perm(); got != want {
				t.Errorf("%s has mode %o, want %o", path, got, want)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	h.Close()
	if err := os.Chmod(p.index(), 0o755); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer // hclog writes one line at a time
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	h, err := host.Open(ctx, host.Config{File: p.file, RunDir: p.run,
		Logger: hclog.New(&hclog.LoggerOptions{Output: &log})})
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	if !strings.Contains(log.String(), "chmod 700") {
		t.Errorf("a folder that others can read is not warned about:\n%s", log.String())
	}
}
