package replay

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/examples/host-app/chat"
	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/shared"
)

const (
	// parallelRooms is how many rooms are replayed side by side, so that they share the syncs of both stores.
	parallelRooms = 64

	// maxBurst is how many messages of one room, and inFlight how many requests of all rooms, are under way at a time.
	maxBurst = 16
	inFlight = 256

	// settleTimeout is how long a replay waits for the last step.
	settleTimeout = time.Minute

	// maxComplaints bounds what is printed of mismatches and leaks; all are counted.
	maxComplaints = 20
)

// replay runs a trace through a server of its own.
type replay struct {
	lines    []*traceLine
	dir      string
	binary   string // of the plugin
	out      io.Writer
	log      hclog.Logger
	opened   func(*chat.Server, *host.Host)                        // for tests: when both are there
	finished func(context.Context, *chat.Server, *host.Host) error // for tests: when all is settled

	server *chat.Server
	plugin *host.Host
	crowd  *crowd
	result report
	mu     sync.Mutex // of result, recalled, recallIDs
	done   atomic.Int64

	recalled  map[string]bool // message ids
	expected  map[string]bool // messages whose recall waits for them: they are sent now, as that was asked for now
	recallIDs map[string]bool
	complaint int
}

// run replays and looks for leaks. An error is something that kept it from doing so.
func (r *replay) run(ctx context.Context) (report, error) {
	began := time.Now()
	r.result.ByStatus = make(map[string]int)
	r.recalled, r.recallIDs, r.expected = make(map[string]bool), make(map[string]bool), make(map[string]bool)
	pluginDir := filepath.Join(r.dir, "plugin")
	if err := os.MkdirAll(pluginDir, 0o700); err != nil {
		return r.result, fmt.Errorf("make the plugin's folder: %w", err)
	}
	runDir, err := os.MkdirTemp("", "recall") // short, for the paths of sockets
	if err != nil {
		return r.result, fmt.Errorf("make a folder for the plugin to run in: %w", err)
	}
	defer os.RemoveAll(runDir)
	config := host.Config{
		Plugin: host.PluginConfig{Binary: r.binary},
		Index:  host.IndexConfig{Path: filepath.Join(pluginDir, "index")},
		RunDir: runDir,
	}
	server, plugin, err := chat.Open(ctx, chat.Data{Folder: filepath.Join(r.dir, "host")}, config, r.log)
	if err != nil {
		return r.result, err
	}
	r.plugin = plugin
	r.server, r.crowd = server, newCrowd(server, r.log)
	if r.opened != nil {
		r.opened(server, plugin)
	}
	err = r.play(ctx, plugin)
	r.result.Restarts = plugin.State().Restarts
	r.crowd.leave()
	err = errors.Join(err, server.Close())
	if err == nil {
		var leaks []string
		leaks, err = r.scanPlugin(filepath.Join(pluginDir, "index"))
		r.leaked(leaks)
	}
	r.result.Seconds = time.Since(began).Seconds()
	return r.result, err
}

// play sends and recalls everything, waits for the steps, and looks into the stores.
func (r *replay) play(ctx context.Context, plugin *host.Host) error {
	if err := r.sendAll(ctx); err != nil {
		return err
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	if r.finished != nil {
		if err := r.finished(ctx, r.server, plugin); err != nil {
			return err
		}
	}
	leaks, err := r.searchServer(ctx)
	if err != nil {
		return err
	}
	r.leaked(leaks)
	late, err := r.crowd.comeBack(ctx, r.recalled)
	r.leaked(late)
	return err
}

func (r *replay) leaked(leaks []string) {
	r.result.Leaks += len(leaks)
	for _, l := range leaks {
		r.complain("leak: %s", l)
	}
}

// complain prints the first of what is wrong.
func (r *replay) complain(format string, args ...any) {
	if r.complaint++; r.complaint <= maxComplaints {
		fmt.Fprintf(r.out, format+"\n", args...)
	}
}

// roomsOf finds the room of each message of a trace: the one where it was first sent.
func roomsOf(lines []*traceLine) map[string]shared.Conversation {
	rooms := make(map[string]shared.Conversation)
	for _, l := range lines {
		if _, known := rooms[l.ID]; l.Op == "message" && !known {
			rooms[l.ID] = l.room()
		}
	}
	return rooms
}

// byRoom splits a trace so that all that concerns one message stays in order: it belongs to the room of its message,
// whatever room the request names. Rooms between which messages are forwarded stay together.
func byRoom(lines []*traceLine, rooms map[string]shared.Conversation) (lists [][]*traceLine) {
	nameOf := func(id string) string {
		if room, known := rooms[id]; known {
			return string(room.Type) + "/" + room.ID
		}
		return "of nowhere " + id
	}
	joined := make(map[string]string) // a room, and the one that it goes with
	root := func(name string) string {
		for joined[name] != "" {
			name = joined[name]
		}
		return name
	}
	for _, l := range lines {
		if from, to := root(nameOf(l.about())), root(nameOf(l.Forward)); l.Forward != "" && from != to {
			joined[from] = to
		}
	}
	byName := make(map[string][]*traceLine)
	for _, l := range lines {
		name := root(nameOf(l.about()))
		byName[name] = append(byName[name], l)
	}
	for _, list := range byName {
		lists = append(lists, list)
	}
	// The longest first: it decides how long the whole takes.
	slices.SortFunc(lists, func(a, b []*traceLine) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return a[0].line - b[0].line
	})
	return lists
}

func (r *replay) sendAll(ctx context.Context) error {
	rooms := roomsOf(r.lines)
	for _, l := range r.lines {
		if l.Op == "message" {
			if err := r.server.Store().AddConversation(ctx, l.room(), l.ConversationID); err != nil {
				return err
			}
		}
	}
	stop := r.progress()
	defer stop()
	for rest := r.lines; len(rest) > 0; {
		n := slices.IndexFunc(rest, func(l *traceLine) bool { return l.Op == "job" })
		if n < 0 {
			return r.sendPart(ctx, rest, rooms)
		}
		if err := r.sendPart(ctx, rest[:n], rooms); err != nil {
			return err
		}
		if err := r.job(ctx, rest[n]); err != nil {
			return fmt.Errorf("line %d: %w", rest[n].line, err)
		}
		r.done.Add(1)
		rest = rest[n+1:]
	}
	return nil
}

// sendPart replays lines without a job, the rooms side by side.
func (r *replay) sendPart(ctx context.Context, lines []*traceLine, rooms map[string]shared.Conversation) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	lists := byRoom(lines, rooms)
	work := make(chan []*traceLine)
	slots := make(chan struct{}, inFlight)
	var workers sync.WaitGroup
	for range parallelRooms {
		workers.Go(func() {
			for list := range work {
				if err := r.replayRoom(ctx, list, rooms, slots); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	for _, list := range lists {
		select {
		case work <- list:
		case <-ctx.Done():
		}
	}
	close(work)
	workers.Wait()
	return context.Cause(ctx)
}

// replayRoom replays one room. Messages that follow one another are sent side by side, a burst at a time, as their
// senders did.
func (r *replay) replayRoom(ctx context.Context, list []*traceLine, rooms map[string]shared.Conversation,
	slots chan struct{}) error {
	for len(list) > 0 && ctx.Err() == nil {
		n := burst(list)
		for _, l := range list[:n] { // everyone is there before the first of them is sent
			if err := r.arrive(ctx, l, rooms); err != nil {
				return fmt.Errorf("line %d: %w", l.line, err)
			}
		}
		var sends sync.WaitGroup
		errs := make([]error, n)
		for i, l := range list[:n] {
			slots <- struct{}{}
			sends.Go(func() {
				defer func() { <-slots }()
				switch l.Op {
				case "message":
					errs[i] = r.send(ctx, l)
				case "amend":
					errs[i] = r.amend(ctx, l)
				default:
					errs[i] = r.recall(ctx, l, rooms[l.MessageID])
				}
				if errs[i] != nil {
					errs[i] = fmt.Errorf("line %d: %w", l.line, errs[i])
				}
				r.done.Add(1)
			})
		}
		sends.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// burst is how many of the next lines may go side by side: one recall, or messages of which none is sent twice, relates
// to another one, or edits a message to which another one relates: that one copies the text as it was in the trace.
func burst(list []*traceLine) int {
	ids := make(map[string]bool, maxBurst)
	for i, l := range list[:min(len(list), maxBurst)] {
		if l.Op != "message" || ids[l.ID] || ids[l.Quote] || ids[l.Edit] || ids[l.Forward] {
			return max(i, 1)
		}
		for _, id := range []string{l.ID, l.Quote, l.Edit, l.Forward} {
			if id != "" {
				ids[id] = true
			}
		}
	}
	return min(len(list), maxBurst)
}

// progress prints how far it is, until it is stopped.
func (r *replay) progress() (stop func()) {
	quit := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(2 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprintf(r.out, "%d of %d lines\n", r.done.Load(), len(r.lines))
			case <-quit:
				fmt.Fprintf(r.out, "%d of %d lines\n", r.done.Load(), len(r.lines))
				return
			}
		}
	})
	return func() { close(quit); done.Wait() }
}

// settle waits until the ledger of every recall has no open step. What a ledger has is recalled, as also the answers
// said: it has more than those, such as edits and forwards.
func (r *replay) settle(ctx context.Context) error {
	deadline := time.Now().Add(settleTimeout)
	open := make([]string, 0, len(r.recallIDs))
	for id := range r.recallIDs {
		open = append(open, id)
	}
	found := make(map[string]bool) // messages that a ledger tells of
	for {
		var still []string
		r.result.Unsettled = 0
		for _, id := range open {
			entries, err := r.server.Ledger(ctx, id)
			if err != nil {
				return fmt.Errorf("read the ledger: %w", err)
			}
			settled, unsettled, told := 0, 0, 0
			for _, entry := range entries {
				for _, step := range entry.Steps {
					switch {
					case !step.Outcome.Settles():
						unsettled++
					case step.Outcome != shared.OutcomeUnsupported:
						settled++
						if step.Step == shared.StepNotify {
							told++
						}
					}
				}
			}
			if unsettled > 0 {
				r.result.Unsettled += unsettled
				still = append(still, id)
				continue
			}
			r.result.StepsSettled += settled
			r.result.Events += told
			for _, entry := range entries {
				found[entry.Event.Message.ID] = true
			}
		}
		open = still
		if len(open) == 0 || time.Now().After(deadline) {
			break
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for id := range r.recalled {
		if len(open) == 0 && !found[id] {
			r.result.Unsettled++
			r.complain("mismatch: message %s is recalled, and no ledger tells of it", id)
		}
	}
	maps.Copy(r.recalled, found)
	return nil
}

// share tells by a hash whether a user belongs to one of a number of equal parts; salt makes another division.
func share(user, salt string, parts uint32) bool {
	h := fnv.New32a()
	_, _ = io.WriteString(h, salt+user)
	return h.Sum32()%parts == 0
}
