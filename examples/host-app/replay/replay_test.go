package replay

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/chat-recall/recall/examples/host-app/chat"
	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testContext is a context that ends a stuck test.
func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// replayTrace replays the small trace of this folder, which has every odd case that we could think of.
func replayTrace(t *testing.T, prepare func(*replay)) report {
	t.Helper()
	lines, err := readTrace(filepath.Join("testdata", "small.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	r := &replay{lines: lines, dir: t.TempDir(), binary: hosttest.BuildPlugin(t), out: &out, log: hclog.NewNullLogger()}
	prepare(r)
	result, err := r.run(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if result.Mismatches+result.Unsettled+result.Leaks > 0 || result.Events == 0 ||
		result.StepsSettled != 5*result.Events {
		t.Errorf("%+v\n%s", result, out.String())
	}
	return result
}

// endState is everything that the server holds, without what depends on which of two rooms was faster. Those who are
// away have not come back yet.
func endState(ctx context.Context, s *chat.Server, plugin *host.Host) ([]string, error) {
	var state []string
	for _, query := range []string{
		"SELECT 'message', id, conversation, sender, type, text, attachments FROM messages",
		"SELECT 'tombstone', id, conversation, '', '', '', '' FROM tombstones",
		"SELECT 'offline', id, user, json_extract(payload, '$.text'), '', '', '' FROM offline",
		"SELECT 'roaming', id, user, json_extract(payload, '$.text'), '', '', '' FROM roaming",
		// Whether its message is in a notice is not compared: it tells whether a client had it when the plugin died.
		"SELECT 'notice', id, user, json_extract(notice, '$.recall_id'), '', '', '' FROM notices",
		"SELECT 'placeholder', id, conversation, json_extract(notice, '$.recall_id'), '', '', '' FROM placeholders",
		"SELECT 'file', key, gone, '', '', '', '' FROM files",
		"SELECT 'member', conversation, user, role, '', '', '' FROM members",
	} {
		rows, err := readRows(ctx, s, query)
		if err != nil {
			return nil, err
		}
		state = append(state, rows...)
	}
	entries, err := os.ReadDir(s.Files().Dir())
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		state = append(state, "on disk "+e.Name())
	}
	var ids []string
	for _, line := range state {
		if kind, rest, _ := strings.Cut(line, "|"); kind == "message" || kind == "tombstone" {
			id, _, _ := strings.Cut(rest, "|")
			ids = append(ids, id)
		}
	}
	for chunk := range slices.Chunk(ids, shared.MaxStatusIDs) {
		states, err := plugin.Status(ctx, chat.Tenant, chunk)
		if err != nil {
			return nil, err
		}
		for _, st := range states {
			state = append(state, fmt.Sprintf("plugin|%s|%s", st.MessageID, st.State))
		}
	}
	slices.Sort(state)
	return state, nil
}

func readRows(ctx context.Context, s *chat.Server, query string) ([]string, error) {
	rows, err := s.Store().Query(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var f [7]string
		if err := rows.Scan(&f[0], &f[1], &f[2], &f[3], &f[4], &f[5], &f[6]); err != nil {
			return nil, err
		}
		list = append(list, strings.Join(f[:], "|"))
	}
	return list, rows.Err()
}

// everyoneIsThere makes all users members before the first message, so that who is told of a recall does not depend on
// whether the next to join was faster than the step.
func everyoneIsThere(t *testing.T, r *replay) {
	t.Helper()
	ctx := testContext(t)
	rooms := roomsOf(r.lines)
	for _, room := range rooms {
		if err := r.server.Store().AddConversation(ctx, room, room.ID); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range r.lines {
		if err := r.arrive(ctx, l, rooms); err != nil {
			t.Fatal(err)
		}
	}
}

// A plugin that is killed at random moments leaves the server as one that lives.
func TestReplay_KilledPlugin(t *testing.T) {
	var calm, killed []string
	first := replayTrace(t, func(r *replay) {
		r.opened = func(*chat.Server, *host.Host) { everyoneIsThere(t, r) }
		r.finished = func(ctx context.Context, s *chat.Server, plugin *host.Host) (err error) {
			calm, err = endState(ctx, s, plugin)
			return err
		}
	})
	if len(calm) < 500 {
		t.Fatalf("the end state has only %d entries: nothing is compared", len(calm))
	}
	const kills = 6
	stop := make(chan struct{})
	var killer sync.WaitGroup
	second := replayTrace(t, func(r *replay) {
		r.opened = func(_ *chat.Server, plugin *host.Host) {
			everyoneIsThere(t, r)
			killer.Go(func() {
				for n := 0; n < kills; {
					before := r.done.Load()
					// Somewhere within the next lines, and then somewhere within the millisecond.
					target := before + 1 + rand.Int64N(40)
					for r.done.Load() < target && r.done.Load() < int64(len(r.lines)) {
						select {
						case <-stop:
							return
						case <-time.After(time.Duration(rand.Int64N(int64(time.Millisecond)))):
						}
					}
					if pid := plugin.State().PID; pid != 0 && plugin.State().Phase == host.PhaseRunning {
						if p, err := os.FindProcess(pid); err == nil && p.Kill() == nil {
							n++
						}
					}
				}
			})
		}
		r.finished = func(ctx context.Context, s *chat.Server, plugin *host.Host) (err error) {
			close(stop)
			killer.Wait()
			killed, err = endState(ctx, s, plugin)
			return err
		}
	})
	if second.Restarts == 0 {
		t.Error("the plugin was never restarted: nothing was tested")
	}
	if diff := cmp.Diff(calm, killed); diff != "" {
		t.Errorf("the end state differs after %d restarts (-calm +killed):\n%s", second.Restarts, diff)
	}
	if diff := cmp.Diff(first.ByStatus, second.ByStatus); diff != "" {
		t.Errorf("the answers differ:\n%s", diff)
	}
}

func TestReplay_MalformedLine(t *testing.T) {
	const good = `{"op":"message","id":"a","conversation_id":"c","conversation_type":"group","sender":"u",` +
		`"sent_at":"2026-01-01T00:00:00Z","text":"x","new":1}`
	for name, c := range map[string]struct{ trace, want string }{
		"no JSON":    {good + "\n{", "line 2:"},
		"unknown op": {good + "\n\n{\"op\":\"edit\"}", "line 3: op is \"edit\""},
		"no sender": {`{"op":"message","id":"a","conversation_id":"c","conversation_type":"group",` +
			`"sent_at":"2026-01-01T00:00:00Z"}`, "line 1: sender is missing"},
		"no time":         {`{"op":"recall","message_id":"a","actor":"u"}`, "line 1: at is missing"},
		"not a time":      {`{"op":"recall","message_id":"a","actor":"u","at":"yesterday"}`, "line 1:"},
		"no message id":   {`{"op":"recall","actor":"u","at":"2026-01-01T00:00:00Z"}`, "line 1: message_id is missing"},
		"line too long":   {good + "\n" + strings.Repeat("x", maxTraceLine+1), "line 2:"},
		"text not a text": {`{"op":"message","text":5}`, "line 1:"},
	} {
		if _, err := parseTrace(strings.NewReader(c.trace)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
	if lines, err := parseTrace(strings.NewReader(good)); err != nil || len(lines) != 1 {
		t.Errorf("a good line with an unknown field: %v, %v", lines, err)
	}
}

// All that concerns one message must stay in order, whatever room a request names.
func TestReplay_OrderWithinARoom(t *testing.T) {
	lines := []*traceLine{
		{Op: "recall", MessageID: "m", ConversationID: "b"},
		{Op: "message", ID: "m", ConversationID: "a", ConversationType: "group"},
		{Op: "message", ID: "m", ConversationID: "b", ConversationType: "group"},
		{Op: "recall", MessageID: "m", ConversationID: "b"},
		{Op: "recall", MessageID: "never", ConversationID: "a"},
	}
	rooms := roomsOf(lines)
	lists := byRoom(lines, rooms)
	if len(lists) != 2 || len(lists[0]) != 4 || rooms["m"].ID != "a" {
		t.Errorf("%v %v", lists, rooms)
	}
}

func TestReplay_FolderNotEmpty(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/x", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := replayFolder(dir); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("%v", err)
	}
}

// The trace depth.jsonl has relations, amendments, waiting recalls and jobs.
func TestReplay_Depth(t *testing.T) {
	lines, err := readTrace(filepath.Join("testdata", "depth.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	r := &replay{lines: lines, dir: t.TempDir(), binary: hosttest.BuildPlugin(t), out: &out, log: hclog.NewNullLogger()}
	killed := make(chan struct{})
	r.opened = func(_ *chat.Server, plugin *host.Host) {
		go func() {
			defer close(killed)
			for range 3 {
				time.Sleep(30 * time.Millisecond) // anywhere in the replay
				if pid := plugin.State().PID; pid != 0 {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
		}()
	}
	result, err := r.run(testContext(t))
	<-killed
	if err != nil {
		t.Fatal(err)
	}
	// r1 with its edit and forwards, f1 and f2, w1, w3, 40 of the spammer, a1, the edit v2 with a forward of its text.
	if recalled := 4 + 2 + 2 + 40 + 1 + 2; result.Mismatches+result.Unsettled+result.Leaks > 0 || result.Jobs != 2 ||
		len(r.recalled) != recalled || result.StepsSettled != 5*recalled {
		t.Errorf("%+v, %d recalled\n%s", result, len(r.recalled), out.String())
	}
}
