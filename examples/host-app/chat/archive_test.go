package chat

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

// archiving are rules that archive what users recall, and erase what managers recall.
const archiving = `
	permit "own" {
		sender = true
		window = "1h"
		on_recall {
			disposition = "archive"
			retention   = "30d"
		}
	}
	permit "managers" {
		conversation = ["group"]
		role         = ["owner", "admin"]
		sender       = false
		window       = "any"
	}
	`

const (
	privateText = "the words that only compliance may read"
	privateFile = "the bytes that only compliance may read"
	retention   = 30 * 24 * time.Hour
)

// laterArchive is the archive of a server at a later time.
func laterArchive(t *testing.T, s *Server, later time.Duration) *Archive {
	t.Helper()
	a, err := openArchive(s.archive.dir, func() time.Time { return time.Now().Add(later) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// putFile stores a file of a user for a room, and returns its key.
func putFile(t testing.TB, s *Server, user, name, content string, room shared.Conversation) string {
	t.Helper()
	key := newID()
	err := s.files.Put(testContext(t), key, FileInfo{Name: name, Owner: user, Conversation: room},
		strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sendPrivate sends a message with the private text and a file, and returns the key of the file.
func sendPrivate(t testing.TB, s *Server, user, id string, room shared.Conversation) (key string) {
	t.Helper()
	key = putFile(t, s, user, "notes.txt", privateFile, room)
	send(t, s, user, Outgoing{ID: id, Conversation: room, Text: privateText, Attachments: []string{key}})
	return key
}

// filesWith lists the files below a folder that have a text in them.
func filesWith(t *testing.T, dir, text string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte(text)) {
			name, _ := filepath.Rel(dir, path)
			list = append(list, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// whereIs lists the files of the server that have the private text or the private bytes in them.
func whereIs(t *testing.T, s *Server) []string {
	t.Helper()
	if err := s.store.Scrub(testContext(t)); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(s.store.Path())
	return append(filesWith(t, dir, privateText), filesWith(t, dir, privateFile)...)
}

func accesses(t *testing.T, s *Server) (list []string) {
	t.Helper()
	all, err := s.archive.Accesses(testContext(t), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range all {
		if age := time.Since(x.At); age < 0 || age > time.Minute {
			t.Errorf("%+v", x)
		}
		list = append(list, strings.TrimSpace(fmt.Sprint(x.Auditor, " ", x.Did, " ", x.MessageID, " ", x.Key)))
	}
	return list
}

func TestArchive_ComplianceReads(t *testing.T) {
	_, block := rulesFile(t, archiving)
	w := newWeb(t, block)
	s := w.server
	key := sendPrivate(t, s, "cleo", "m", groupRoom)
	takeBack(t, s, "cleo", adapter.Ask{MessageIDs: []string{"m"}, RecallID: "r", Reason: "a slip"})
	settled(t, s, "r")
	if got := whereIs(t, s); len(got) != 2 || got[0] != "archive/archive.db" ||
		!strings.HasPrefix(got[1], "archive/files/") {
		t.Errorf("the content is in %q", got)
	}
	if status, _ := w.do("GET", "/attachments?key="+key, "cleo", ""); status != http.StatusGone {
		t.Errorf("a user downloads the file: %d", status)
	}
	for _, path := range []string{"/archive/read", "/archive/file", "/archive/hold"} {
		for _, user := range []string{"", "cleo", "ann", "eve"} {
			body := `{"message_id":"m","key":"` + key + `"}`
			if status, answer := w.do("POST", path, user, body); status != http.StatusForbidden ||
				strings.Contains(answer["body"].(string), "only compliance may read") {
				t.Errorf("%s by %q: %d %v", path, user, status, answer)
			}
		}
	}
	if status, _ := w.do("GET", "/archive/accesses", "ann", ""); status != http.StatusForbidden {
		t.Errorf("accesses by a user: %d", status)
	}
	if got := accesses(t, s); got != nil {
		t.Errorf("refused requests are recorded as accesses: %q", got)
	}

	status, answer := w.do("POST", "/archive/read", "vera", `{"message_id":"m"}`)
	var content Archived
	if err := json.Unmarshal([]byte(answer["body"].(string)), &content); err != nil || status != http.StatusOK {
		t.Fatalf("%d %v", status, answer)
	}
	if e := content.Event; content.Text != privateText || content.Held || e.RecallID != "r" || e.Actor.ID != "cleo" ||
		e.Reason != "a slip" || !content.ExpiresAt.Equal(e.RecalledAt.Add(retention)) ||
		!slices.Equal(content.Files, []ArchivedFile{{key, "notes.txt"}}) {
		t.Errorf("%+v", content)
	}
	_, answer = w.do("POST", "/archive/file", "vera", `{"message_id":"m","key":"`+key+`"}`)
	if answer["body"] != privateFile {
		t.Errorf("the file is %v", answer)
	}
	for path, body := range map[string]string{
		"/archive/read": `{"message_id":"other"}`, "/archive/file": `{"message_id":"other","key":"` + key + `"}`,
		"/archive/hold": `{"message_id":"other","hold":true}`,
	} {
		if status, answer := w.do("POST", path, "vera", body); status != http.StatusNotFound {
			t.Errorf("%s of a message that is not there: %d %v", path, status, answer)
		}
	}
	want := []string{"vera file m " + key, "vera read m"}
	if got := accesses(t, s); !slices.Equal(got, want) {
		t.Errorf("recorded is %q, want %q", got, want)
	}
	_, answer = w.do("GET", "/archive/accesses", "vera", "")
	if list := answer["accesses"].([]any); len(list) != 2 || list[0].(map[string]any)["auditor"] != "vera" ||
		list[1].(map[string]any)["message_id"] != "m" {
		t.Errorf("%v", answer)
	}
}

func TestArchive_Erase(t *testing.T) {
	_, block := rulesFile(t, archiving)
	s, _ := newTestServer(t, block)
	sendPrivate(t, s, "cleo", "m", groupRoom)
	takeBack(t, s, "ben", adapter.Ask{MessageIDs: []string{"m"}, RecallID: "r"})
	settled(t, s, "r")
	if got := whereIs(t, s); got != nil {
		t.Errorf("what was to be erased is in %q", got)
	}
}

// An attachment that a live message uses stays with it, and comes into the archive when the last one is recalled.
func TestArchive_SharedFile(t *testing.T) {
	_, block := rulesFile(t, archiving)
	s, _ := newTestServer(t, block)
	key := sendPrivate(t, s, "cleo", "m1", groupRoom)
	send(t, s, "cleo", Outgoing{ID: "m2", Conversation: groupRoom, Text: "again", Attachments: []string{key}})
	for i, want := range []int{0, 1} {
		id := fmt.Sprint("m", i+1)
		takeBack(t, s, "cleo", adapter.Ask{MessageIDs: []string{id}, RecallID: "r-" + id})
		settled(t, s, "r-"+id)
		content, err := s.archive.Read(testContext(t), "vera", id)
		if err != nil || len(content.Files) != want {
			t.Errorf("%s: %+v %v", id, content, err)
		}
	}
	file, _, err := s.archive.ReadFile(testContext(t), "vera", "m2", key)
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
}

// A message came to use a file after the plugin had named it.
func TestArchive_FileUsedAgain(t *testing.T) {
	s, _ := newTestServer(t)
	key := putFile(t, s, "ann", "notes.txt", privateFile, singleRoom)
	send(t, s, "ann", Outgoing{ID: "live", Conversation: singleRoom, Text: "x", Attachments: []string{key}})
	d := shared.Delivery{Step: shared.StepAttachments, Event: shared.Event{
		Tenant: Tenant, RecallID: "r", Message: shared.Message{Tenant: Tenant, ID: "m", Conversation: singleRoom},
		Disposition: shared.DispositionArchive, Retention: retention, Attachments: []shared.Attachment{{Key: key}},
	}}
	if o, err := s.deleteFiles(testContext(t), d); err != nil || o != shared.OutcomeNothingToDo {
		t.Fatalf("%v %v", o, err)
	}
	if got := whereIs(t, s); len(got) != 1 || !strings.HasPrefix(got[0], "files/") {
		t.Errorf("the file is in %q", got)
	}
}

func TestArchive_Purge(t *testing.T) {
	_, block := rulesFile(t, archiving)
	w := newWeb(t, block)
	s := w.server
	hold := func(id string, held bool) {
		t.Helper()
		status, answer := w.do("POST", "/archive/hold", "vera", fmt.Sprintf(`{"message_id":%q,"hold":%v}`, id, held))
		if status != http.StatusOK || answer["held"] != held {
			t.Fatalf("%d %v", status, answer)
		}
	}
	purge := func(after time.Duration, want int) {
		t.Helper()
		if n, err := laterArchive(t, s, after).Purge(testContext(t)); err != nil || n != want {
			t.Errorf("purged %d after %s, %v; want %d", n, after, err, want)
		}
	}
	keys := map[string]string{}
	for _, id := range []string{"plain", "labeled", "held later", "unlabeled"} {
		keys[id] = sendPrivate(t, s, "cleo", id, groupRoom)
	}
	hold("labeled", true) // while they are live, by their label
	hold("unlabeled", true)
	hold("unlabeled", false)
	var ids []string
	for id := range keys {
		ids = append(ids, id)
	}
	takeBack(t, s, "cleo", adapter.Ask{MessageIDs: ids, RecallID: "r"})
	settled(t, s, "r")
	hold("held later", true) // when no label changes any more

	purge(retention-time.Minute, 0)
	purge(retention+time.Minute, 2)
	for id, there := range map[string]bool{"plain": false, "unlabeled": false, "labeled": true, "held later": true} {
		content, err := s.archive.Read(testContext(t), "vera", id)
		if (err == nil) != there || content.Held != there {
			t.Errorf("%s: %+v %v", id, content, err)
		}
		if _, err := os.Stat(s.archive.path(keys[id])); (err == nil) != there {
			t.Errorf("the file of %s: %v", id, err)
		}
	}
	purge(10*retention, 0)
	hold("labeled", false)
	hold("held later", false)
	purge(retention-time.Minute, 0)
	purge(retention+time.Minute, 2)
	if got := whereIs(t, s); got != nil {
		t.Errorf("after the purge the content is in %q", got)
	}
	var decisions []string
	for _, one := range accesses(t, s) {
		if !strings.Contains(one, " read ") {
			decisions = append(decisions, one)
		}
	}
	want := []string{"vera release held later", "vera release labeled", "vera hold held later",
		"vera release unlabeled", "vera hold unlabeled", "vera hold labeled"}
	if !slices.Equal(decisions, want) { // the accesses stay
		t.Errorf("recorded is %q, want %q", decisions, want)
	}
}

// A hold of a message holds its edits too: what its readers saw. It may come before the recall, or after it, or before
// the recall of an edit alone.
func TestArchive_HoldsEdits(t *testing.T) {
	_, block := rulesFile(t, archiving)
	w := newWeb(t, block)
	s := w.server
	hold := func(id string, held, want bool) {
		t.Helper()
		status, answer := w.do("POST", "/archive/hold", "vera", fmt.Sprintf(`{"message_id":%q,"hold":%v}`, id, held))
		if status != http.StatusOK || answer["held"] != want {
			t.Fatalf("%s: %d %v", id, status, answer)
		}
	}
	purge := func(want int) {
		t.Helper()
		if n, err := laterArchive(t, s, 2*retention).Purge(testContext(t)); err != nil || n != want {
			t.Errorf("purged %d, %v; want %d", n, err, want)
		}
	}
	messages := []string{"before", "after", "alone", "labeled", "free"}
	for _, id := range messages {
		send(t, s, "cleo", Outgoing{ID: id, Conversation: groupRoom, Text: "v1 of " + id})
		for v := 2; v <= 3; v++ {
			send(t, s, "cleo", Outgoing{ID: fmt.Sprint(id, v), Conversation: groupRoom, Text: fmt.Sprintf("v%d of %s", v, id),
				Edit: id})
		}
	}
	hold("before", true, true)
	hold("alone", true, true)
	amended, err := s.recall.Amend(testContext(t), []shared.Amendment{{Tenant: Tenant, MessageID: "labeled",
		Labels: []string{HoldLabel}}}) // by something else than the audit view
	if err != nil || amended[0].Status != shared.IndexAmended {
		t.Fatalf("%+v %v", amended, err)
	}
	recalled := []string{"before", "after", "labeled", "free", "alone3"}
	takeBack(t, s, "cleo", adapter.Ask{MessageIDs: recalled, RecallID: "r"})
	settled(t, s, "r")
	hold("after", true, true)

	purge(3) // free, free2, free3
	for _, id := range []string{"before", "after", "labeled"} {
		content, err := s.archive.Read(testContext(t), "vera", id)
		if err != nil || !content.Held || content.Text != "v1 of "+id || len(content.Edits) != 2 || content.MoreEdits ||
			content.Edits[0].Text != "v3 of "+id || content.Edits[1].MessageID != id+"2" ||
			content.Edits[0].SentAt.Before(content.Edits[1].SentAt) {
			t.Errorf("%s: %+v %v", id, content, err)
		}
		want := []string{"vera read " + id, "vera read " + id + "2", "vera read " + id + "3"}
		if got := accesses(t, s); !slices.Equal(got[:3], want) {
			t.Errorf("recorded is %q, want %q", got[:3], want)
		}
	}
	if content, err := s.archive.Read(testContext(t), "vera", "alone3"); err != nil || !content.Held ||
		content.Text != "v3 of alone" || content.Edits == nil || len(content.Edits) > 0 {
		t.Errorf("%+v %v", content, err)
	}

	hold("after2", true, true)
	hold("after2", false, true) // its original is held
	hold("after3", true, true)
	hold("after", false, false)
	purge(2) // after, after2
	if _, err := s.archive.Read(testContext(t), "vera", "after3"); err != nil {
		t.Errorf("an edit that is held itself: %v", err)
	}
	for _, id := range []string{"after3", "before", "labeled", "alone"} {
		hold(id, false, false)
	}
	purge(8)
}

// A decision that the plugin does not hear of is in the archive, with who made it.
func TestArchive_HoldRecordedFirst(t *testing.T) {
	s := newStubServer(t, new(index))
	s.recall = &deafIndex{index: index{onStatus: func(string) shared.MessageState { return shared.MessageLive }}}
	w := serveWeb(t, &api{server: s, held: new(heldCalls), limits: newLimits(192)})
	for _, hold := range []bool{true, false} {
		status, _ := w.do("POST", "/archive/hold", "vera", fmt.Sprintf(`{"message_id":"m","hold":%v}`, hold))
		if status != http.StatusServiceUnavailable {
			t.Errorf("answered %d", status)
		}
		did := map[bool]string{true: "vera hold m", false: "vera release m"}[hold]
		if got := accesses(t, s); len(got) == 0 || got[0] != did {
			t.Errorf("recorded is %q", got)
		}
		e := shared.Event{Tenant: Tenant, Message: shared.Message{Tenant: Tenant, ID: "m"}, RecalledAt: time.Now()}
		if err := s.archive.KeepText(testContext(t), &e, "x"); err != nil {
			t.Fatal(err)
		}
		if content, err := s.archive.Read(testContext(t), "vera", "m"); err != nil || content.Held != hold {
			t.Errorf("%+v %v", content, err)
		}
	}
}

// deafIndex is a plugin that goes away before it changes a message.
type deafIndex struct{ index }

func (*deafIndex) Amend(context.Context, []shared.Amendment) ([]shared.IndexResult, error) {
	return nil, shared.ErrUnavailable
}

// The server purges by itself: at its start what has expired meanwhile.
func TestArchive_PurgedAtStart(t *testing.T) {
	folder := t.TempDir()
	a, err := openArchive(filepath.Join(folder, "archive"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	e := shared.Event{Tenant: Tenant, Message: shared.Message{Tenant: Tenant, ID: "m"}, Retention: time.Hour,
		RecalledAt: time.Now().Add(-2 * time.Hour)}
	if err := a.KeepText(testContext(t), &e, privateText); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), t.TempDir())
	s, _, err := Open(testContext(t), Data{Folder: folder}, host.Config{File: file, RunDir: hosttest.RunDir(t)},
		hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for ctx := testContext(t); filesWith(t, folder, privateText) != nil; {
		select {
		case <-time.After(5 * time.Millisecond): // polling, bounded by ctx
		case <-ctx.Done():
			t.Fatal("it was not purged")
		}
	}
}

// killedAt names, to this test binary run again as a server, where it kills itself.
const killedAt = "RECALL_TEST_ARCHIVE_KILLED_AT"

// The moments at which a server is killed.
const (
	textArchived = "the text is archived and not removed"
	textRemoved  = "the text is removed, and nobody knows"
	fileArchived = "the file is archived and not deleted"
	fileForgot   = "the file is archived and forgotten, and there"
	fileDeleted  = "the file is deleted, and nobody knows"
)

// runKilled is a server that recalls a message and kills itself within a step of that.
func runKilled(at string) {
	ctx := context.Background()
	fail := func(err error) {
		fmt.Println(err)
		os.Exit(1)
	}
	s, err := newServer(Data{Folder: os.Getenv("RECALL_TEST_DATA")}, hclog.NewNullLogger())
	if err != nil {
		fail(err)
	}
	die := func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }
	steps := s.steps()
	within := func(step, moment string, do func(context.Context, shared.Delivery) error) {
		if at == moment {
			steps[step] = host.Step{Run: func(ctx context.Context, d shared.Delivery) (shared.Outcome, error) {
				if err := do(ctx, d); err != nil {
					fail(err)
				}
				die()
				select {}
			}}
		}
	}
	all := func(run func(context.Context, shared.Delivery) (shared.Outcome, error)) func(context.Context,
		shared.Delivery) error {
		return func(ctx context.Context, d shared.Delivery) error {
			_, err := run(ctx, d)
			return err
		}
	}
	within(shared.StepHistory, textArchived, s.archiveText)
	within(shared.StepHistory, textRemoved, all(s.removeFromHistory))
	within(shared.StepAttachments, fileArchived, func(ctx context.Context, d shared.Delivery) error {
		return s.archiveFile(ctx, d, d.Attachments[0].Key)
	})
	within(shared.StepAttachments, fileForgot, func(ctx context.Context, d shared.Delivery) error {
		key := d.Attachments[0].Key
		if err := s.archiveFile(ctx, d, key); err != nil {
			return err
		}
		return s.store.apply(ctx, func(tx *writeTx) error { // as Files.Delete does first
			return tx.exec("UPDATE files SET gone = 1, name = '' WHERE key = ?", key)
		})
	})
	within(shared.StepAttachments, fileDeleted, all(s.deleteFiles))
	recall, err := host.Open(ctx, host.Config{File: os.Getenv("RECALL_TEST_FILE"), RunDir: os.Getenv("RECALL_TEST_RUN"),
		Steps: steps, Logger: hclog.NewNullLogger()})
	if err != nil {
		fail(err)
	}
	s.start(ctx, recall, recall.Close)
	if err := addDemo(ctx, s); err != nil {
		fail(err)
	}
	err = s.files.Put(ctx, "key", FileInfo{Name: "notes.txt", Owner: "ann", Conversation: singleRoom},
		strings.NewReader(privateFile))
	if err == nil {
		_, err = s.Send(ctx, "ann", Outgoing{ID: "m", Conversation: singleRoom, Text: privateText,
			Attachments: []string{"key"}})
	}
	if err == nil {
		_, err = s.Recall(ctx, "ann", adapter.Ask{MessageIDs: []string{"m"}, RecallID: "r"})
	}
	if err != nil {
		fail(err)
	}
	select {} // until the step comes
}

// Whenever a server is killed, the content is in the archive once when the recall is settled, and nowhere else.
func TestArchive_Killed(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{textArchived, textRemoved, fileArchived, fileForgot, fileDeleted} {
		t.Run(at, func(t *testing.T) {
			_, block := rulesFile(t, archiving)
			file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), t.TempDir(), block)
			folder, run := t.TempDir(), hosttest.RunDir(t)
			child := exec.CommandContext(testContext(t), self)
			child.Env = append(os.Environ(), killedAt+"="+at, "RECALL_TEST_DATA="+folder, "RECALL_TEST_FILE="+file,
				"RECALL_TEST_RUN="+run)
			out, _ := child.CombinedOutput()
			if status, ok := child.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
				t.Fatalf("%s\n%s", child.ProcessState, out)
			}
			s, _, err := Open(testContext(t), Data{Folder: folder}, host.Config{File: file, RunDir: run}, hclog.NewNullLogger())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for _, step := range settled(t, s, "r")[0].Steps {
				if !step.Outcome.Settles() {
					t.Errorf("%+v", step)
				}
			}
			if got := whereIs(t, s); len(got) != 2 || got[0] != "archive/archive.db" ||
				!strings.HasPrefix(got[1], "archive/files/") {
				t.Errorf("the content is in %q", got)
			}
			content, err := s.archive.Read(testContext(t), "vera", "m")
			if err != nil || content.Text != privateText || !slices.Equal(content.Files, []ArchivedFile{{"key", "notes.txt"}}) {
				t.Errorf("%+v %v", content, err)
			}
			if n := strings.Count(string(mustRead(t, filepath.Join(folder, "archive/archive.db"))), privateText); n != 1 {
				t.Errorf("the text is archived %d times", n)
			}
		})
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestArchive_Page(t *testing.T) {
	c, _ := chatWithRules(t, archiving)
	sendPrivate(t, c.Server, "cleo", "m", groupRoom)
	takeBack(t, c.Server, "cleo", adapter.Ask{MessageIDs: []string{"m"}, RecallID: "r"})
	sendPrivate(t, c.Server, "cleo", "erased", groupRoom)
	takeBack(t, c.Server, "ben", adapter.Ask{MessageIDs: []string{"erased"}, RecallID: "r2"})
	settled(t, c.Server, "r")
	settled(t, c.Server, "r2")
	vera := c.open("/audit?user=vera", desktop)
	vera.wait(`document.querySelectorAll('#recalls > li').length === 2`)
	vera.shows("#no-accesses", "Nobody has read the archive.")
	eval[any](vera, `document.querySelectorAll('#recalls details').forEach((d) => { d.open = true; })`)
	if n := eval[int](vera, `document.querySelectorAll('.archived').length`); n != 1 {
		t.Errorf("%d messages are shown as archived", n)
	}
	vera.holdsNot(privateText)

	vera.click(".archived button")
	vera.shows(".archived .text", privateText)
	vera.shows(".archived", "Kept until")
	vera.shows("#accesses", "vera read message m")
	if got := accesses(t, c.Server); !slices.Equal(got, []string{"vera read m"}) {
		t.Errorf("%q", got)
	}
	vera.click(".archived button:last-child")
	vera.shows(".archived", "On hold")
	vera.shows("#accesses", "vera put message m on hold")
	vera.fits()
	vera.contrast()
	vera.shot("archive")
	vera.click(".archived button:last-child")
	vera.shows(".archived", "Kept until")
	vera.click(".archived .text + button")
	vera.shows("#accesses", "vera opened a file of message m")
	if got := accesses(t, c.Server); len(got) != 4 || !strings.HasPrefix(got[0], "vera file m ") {
		t.Errorf("%q", got)
	}

	// A user sees nothing of it.
	ann := c.user("ann", "group/team", desktop)
	ann.wait(`document.querySelectorAll('.placeholder').length === 2`)
	ann.holdsNot(privateText)
}

func TestArchive_PageWithoutFiles(t *testing.T) {
	c, _ := chatWithRules(t, archiving)
	send(t, c.Server, "cleo", Outgoing{ID: "m", Conversation: groupRoom, Text: privateText})
	send(t, c.Server, "cleo", Outgoing{ID: "e", Conversation: groupRoom, Text: "what its readers saw", Edit: "m"})
	takeBack(t, c.Server, "cleo", adapter.Ask{MessageIDs: []string{"m"}, RecallID: "r"})
	settled(t, c.Server, "r")
	vera := c.open("/", desktop)
	vera.shows("a", "Audit")
	vera.shows("li", "It shows texts only from the archive, and records who reads them.")
	vera.click(`a[href="/audit?user=vera"]`)
	vera.wait(`document.querySelectorAll('#recalls > li').length === 2`) // the message and its edit
	eval[any](vera, `document.querySelector('[data-message=m] details').open = true`)
	vera.click("[data-message=m] .archived button")
	vera.shows("[data-message=m] .archived .text", privateText)
	vera.shows("[data-message=m] .archived", "Kept until")
	vera.shows("[data-message=m] .archived", "Edited at")
	vera.shows("[data-message=m] .archived .edit", "what its readers saw")
	vera.shows("#accesses", "vera read message e")
	if text := vera.text("[data-message=m] .archived"); strings.Contains(text, "false") {
		t.Errorf("%s", text)
	}
}
