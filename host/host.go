// Package host lets a chat server take messages back. It starts the recall plugin and restarts it after a crash,
// upgrades it without losing a call, and runs the server's own steps for each recall.
//
//	recall, err := host.Open(ctx, host.Config{
//		File: "plugin.hcl",
//		Steps: map[string]host.Step{
//			shared.StepNotify:      {Run: hub.Notify},   // tell the clients: d.Notice(delivered)
//			shared.StepAttachments: {Run: files.Delete}, // d.Attachments
//			shared.StepHistory:     {Run: store.Remove, After: []string{shared.StepAttachments}}, // d.Message.ID
//		},
//	})
//	if err != nil {
//		return err
//	}
//	defer recall.Close()
//
// From then on the server calls recall.Index for each message that it accepts, before it acknowledges the message to
// the sender, and recall.Recall when a user takes a message back. [shared.Recall] describes these and the other calls.
// The steps remove a recalled message from the server's own stores. Each step is called for each recalled message until
// it succeeds, also across crashes of the plugin and of the server.
package host

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/config"
	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

// Config configures [Open].
type Config struct {
	// File is the path of the plugin.hcl. Its block "plugin" is for the host; the plugin reads the others itself. If File
	// is empty, Plugin, Index, Rules and Cluster have the same settings. The host writes them to a file in RunDir for the
	// plugin.
	File    string
	Plugin  PluginConfig
	Index   IndexConfig
	Rules   RulesConfig
	Cluster ClusterConfig

	// Background makes Open return before the plugin answers. Calls are held until it does. If the plugin does not start,
	// the host tries again, as after a crash: see State. Open still fails if the configuration or the binary is wrong.
	Background bool

	// EndWithParent closes the Host when the parent of this process ends, however it ends. It is for a host inside a
	// plugin process of another system: if that process outlived its parent, it would keep the index locked. If the parent
	// ends during Open, Open fails. A parent that ended before Open is not noticed. It needs Linux 5.3.
	EndWithParent bool

	// Steps are the steps of a recall that this server carries out, by name: standard steps (shared.StepNotify and so on)
	// and its own. A standard step that is missing here is recorded as unsupported when a recall is committed. If such a
	// step is still open from an earlier recall, it stays open until a host with this step is opened. The host logs a
	// warning.
	Steps map[string]Step

	// Logger receives the SDK's log and the plugin's. Nil discards the log. FromSlog makes one of an slog.Logger.
	Logger hclog.Logger

	// RunDir is a folder for sockets and for private copies of plugin binaries, which are executed from it. Use a folder
	// of its own for each File or Index.Path. It is created with mode 0700 if needed, and keeps a copy of the last binary.
	// Open refuses the folder if another user owns it, can write to it, or could replace it through a folder above it. If
	// RunDir is empty, it is a folder in os.UserCacheDir, one for each File or Index.Path, and Open fails if there is no
	// such folder. If a cleaner deletes a copy, the host makes it again.
	RunDir string

	// OnState, if not nil, is called after each change of State, one call at a time, and must not block.
	OnState func(State)

	// OnHeld, if not nil, is called for each call that was held and then let through, with how long it was held, during a
	// swap or after a crash. It is called from many goroutines and must not block.
	OnHeld func(time.Duration)
}

// Host is a running recall plugin. It implements [shared.Recall] for the whole server, and runs Config.Steps for each
// recall. It is safe for use by many goroutines.
//
// While the plugin restarts or is upgraded, calls are held until it is back or their own context ends. So give each
// call a context that ends. The host repeats a call that was cut off, with the same ids. A call fails with
// [shared.ErrUnavailable] if the plugin does not come back, with [shared.ErrOverloaded] if too many calls wait (in the
// host 16,384 calls or 64 MiB, in the plugin 4,096 calls), and with a [*shared.FieldError] if the request is wrong.
type Host struct {
	supervisor *supervisor
	worker     *worker
	gate       *gate
	timings    *timings
	running    context.Context // ends with Close
	close      context.CancelFunc
	done       sync.WaitGroup
	lock       *os.File // of the RunDir, held until Close
	closed     sync.Once
	closeErr   error
}

var _ shared.Recall = (*Host)(nil)

// Open starts the plugin and returns when it answers. ctx limits only Open: end the Host with Close. Open waits up to
// one minute for another host to release the run directory, then up to one minute for another process to release the
// index.
func Open(ctx context.Context, c Config) (*Host, error) {
	logger := c.Logger
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	logger = logger.Named("recall")
	if !c.EndWithParent {
		return openLocked(ctx, c, logger)
	}
	parent, stop, err := watchParent()
	if err != nil {
		return nil, err
	}
	opening, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(parent, cancel)()
	h, err := openLocked(opening, c, logger)
	if err != nil {
		defer stop()
		return nil, cmp.Or(context.Cause(parent), err)
	}
	context.AfterFunc(h.running, stop)
	context.AfterFunc(parent, func() {
		if h.running.Err() == nil {
			logger.Warn("closing the host", "cause", context.Cause(parent))
			_ = h.Close()
		}
	})
	return h, nil
}

// openLocked takes the RunDir and loads the plugin.
func openLocked(ctx context.Context, c Config, logger hclog.Logger) (*Host, error) {
	plan, err := c.plan()
	if err != nil {
		return nil, err
	}
	var key string // one run directory for each plugin.hcl, or for each index
	if plan != nil {
		key = plan.Index.Path
	} else {
		settings, err := readSettings(c.File)
		if err != nil {
			return nil, err
		}
		key = settings.file
	}
	steps, err := planSteps(c.Steps)
	if err != nil {
		return nil, err
	}
	runDir, err := makeRunDir(c.RunDir, key)
	if err != nil {
		return nil, err
	}
	lock, err := lockRunDir(ctx, runDir, logger)
	if err != nil {
		return nil, err
	}
	h, err := open(ctx, c, plan, steps, runDir, logger)
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	h.lock = lock
	return h, nil
}

// open loads the plugin of a host that holds its RunDir. plan is the plugin.hcl of a configuration in Go, or nil.
func open(ctx context.Context, c Config, plan *config.File, steps []wire.StepPlan, runDir string, logger hclog.Logger,
) (*Host, error) {
	if plan != nil {
		c.File = filepath.Join(runDir, "plugin.hcl")
		if err := writeConfig(c.File, plan); err != nil {
			return nil, err
		}
	}
	settings, err := readSettings(c.File) // again: it may have waited for the folder
	if err != nil {
		return nil, err
	}
	seen, _ := os.Stat(settings.Plugin.Binary) // before it is copied, so that no change after that is missed
	staged, err := stage(runDir, settings.binary())
	if err != nil {
		return nil, err
	}
	used, err := readLastUsed(runDir, logger)
	if err != nil {
		return nil, err
	}
	timings := newTimings(slices.Sorted(maps.Keys(c.Steps)))
	g := newGate(func(held time.Duration) {
		timings.held.Observe(held.Seconds())
		if c.OnHeld != nil {
			c.OnHeld(held)
		}
	})
	s := &supervisor{
		settings: settings, plan: plan, runDir: runDir, steps: steps, gate: g, logger: logger, onState: c.OnState,
		lastUsed: used, turn: make(chan struct{}, 1), swaps: make(chan *upgrade),
	}
	var p *process
	if !c.Background {
		if p, err = s.bringUp(ctx, staged); err != nil {
			_ = os.Remove(staged.path) // a host that did not open leaves nothing but the folder, whose lock another may wait for
			return nil, err
		}
		sweep(runDir, logger, staged.path, p.socketDir)
	} else {
		sweep(runDir, logger, staged.path)
	}
	if last := used.binary(); last.SHA256 != "" && last.SHA256 != staged.sha256 {
		logger.Warn("plugin.hcl names another binary than the one that was in force last: "+
			"an upgrade by call does not change it",
			"binary", staged.source, "sha256", staged.sha256,
			"last_binary", last.Binary, "last_version", last.Version, "last_sha256", last.SHA256)
		s.state.Previous = &last
	}
	if p != nil {
		s.publish(p, 0)
	} else {
		s.begin(staged)
	}

	h := &Host{supervisor: s, gate: g, timings: timings}
	h.running, h.close = context.WithCancel(context.Background())
	h.worker = newWorker(h.running, c.Steps, g, logger)
	h.worker.ran = timings.ran
	// The steps end first, so that what they are about to report is still recorded.
	stepsDone := make(chan struct{})
	h.done.Go(func() {
		defer close(stepsDone)
		h.worker.run()
	})
	h.done.Go(func() {
		supervise, stop := context.WithCancel(context.Background())
		defer stop()
		go func() {
			<-stepsDone
			stop()
		}()
		s.run(supervise)
	})
	h.done.Go(func() { s.watchPending(h.running) })
	if settings.Plugin.Watch {
		w := &watcher{file: settings.file, seen: seen, logger: logger, upgrade: h.Upgrade}
		h.done.Go(func() { w.run(h.running, settings.Plugin.Binary) })
	}
	return h, nil
}

// Close stops the plugin. It cancels the contexts of running steps and waits for the steps, lets the plugin answer the
// calls in flight, and releases the index. Later calls get [shared.ErrUnavailable]. It may be called more than once.
//
// Close gives up after 10 s on a step that ignores the end of its context. It then returns an error that names the
// step, and the step runs again after the next Open.
func (h *Host) Close() error {
	h.closed.Do(func() {
		h.close()
		h.supervisor.turn <- struct{}{} // an upgrade under way ends first
		h.done.Wait()
		_ = h.lock.Close()
		h.closeErr = h.worker.stuck()
	})
	return h.closeErr
}

// State returns the state of the plugin.
func (h *Host) State() State {
	h.supervisor.mu.Lock()
	defer h.supervisor.mu.Unlock()
	return h.supervisor.state
}

// Index implements [shared.Recall].
func (h *Host) Index(ctx context.Context, msgs []shared.Message) ([]shared.IndexResult, error) {
	return sizedCall(ctx, h.gate, sizeOfMessages(msgs), func(api *wire.Client) ([]shared.IndexResult, error) {
		return api.Index(ctx, msgs)
	})
}

// Recall implements [shared.Recall]. It makes a RecallID if that is empty. The rules judge a request that was held by
// the time of this call: the plugin subtracts the time for which it was held from its own clock.
func (h *Host) Recall(ctx context.Context, req shared.RecallRequest) ([]shared.RecallResult, error) {
	if err := ensureRecallID(&req); err != nil {
		return nil, err
	}
	made, before := time.Now(), req.Held
	return sizedCall(ctx, h.gate, sizeOfRecall(&req), func(api *wire.Client) ([]shared.RecallResult, error) {
		req.Held = before + time.Since(made)
		return api.Recall(ctx, req)
	})
}

func ensureRecallID(req *shared.RecallRequest) error { return ensureID(&req.RecallID, "recall") }

// ensureID makes an id unless there is one.
func ensureID(id *string, of string) error {
	if *id != "" {
		return nil
	}
	made, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make a %s id: %w", of, err)
	}
	*id = made.String()
	return nil
}

// Amend implements [shared.Recall].
func (h *Host) Amend(ctx context.Context, amendments []shared.Amendment) ([]shared.IndexResult, error) {
	return sizedCall(ctx, h.gate, sizeOfAmendments(amendments), func(api *wire.Client) ([]shared.IndexResult, error) {
		return api.Amend(ctx, amendments)
	})
}

// Explain implements [shared.Recall].
func (h *Host) Explain(ctx context.Context, req shared.RecallRequest) ([]shared.Explanation, error) {
	if err := ensureRecallID(&req); err != nil {
		return nil, err
	}
	return sizedCall(ctx, h.gate, sizeOfRecall(&req), func(api *wire.Client) ([]shared.Explanation, error) {
		return api.Explain(ctx, req)
	})
}

// Check implements [shared.Recall].
func (h *Host) Check(ctx context.Context, req shared.RecallRequest) ([]shared.RecallResult, error) {
	if err := ensureRecallID(&req); err != nil {
		return nil, err
	}
	return sizedCall(ctx, h.gate, sizeOfRecall(&req), func(api *wire.Client) ([]shared.RecallResult, error) {
		return api.Check(ctx, req)
	})
}

// Status implements [shared.Recall].
func (h *Host) Status(ctx context.Context, tenant string, ids []string) ([]shared.MessageStatus, error) {
	return sizedCall(ctx, h.gate, smallCall+sizeOfList(ids), func(api *wire.Client) ([]shared.MessageStatus, error) {
		return api.Status(ctx, tenant, ids)
	})
}

// Since implements [shared.Recall].
func (h *Host) Since(ctx context.Context, req shared.SinceRequest) (shared.EventPage, error) {
	return sizedCall(ctx, h.gate, sizeOfSince(&req), func(api *wire.Client) (shared.EventPage, error) {
		return api.Since(ctx, req)
	})
}

// List implements [shared.Recall].
func (h *Host) List(ctx context.Context, req shared.ListRequest) (shared.EventPage, error) {
	return call(ctx, h.gate, func(api *wire.Client) (shared.EventPage, error) { return api.List(ctx, req) })
}

// Ledger implements [shared.Recall].
func (h *Host) Ledger(ctx context.Context, req shared.LedgerRequest) (shared.LedgerPage, error) {
	return call(ctx, h.gate, func(api *wire.Client) (shared.LedgerPage, error) { return api.Ledger(ctx, req) })
}

// Forget implements [shared.Recall].
func (h *Host) Forget(ctx context.Context, req shared.ForgetRequest) (shared.ForgetResult, error) {
	return call(ctx, h.gate, func(api *wire.Client) (shared.ForgetResult, error) { return api.Forget(ctx, req) })
}

// Waits implements [shared.Recall].
func (h *Host) Waits(ctx context.Context, req shared.WaitsRequest) (shared.WaitPage, error) {
	return call(ctx, h.gate, func(api *wire.Client) (shared.WaitPage, error) { return api.Waits(ctx, req) })
}

// Related implements [shared.Recall].
func (h *Host) Related(ctx context.Context, req shared.RelatedRequest) (shared.RelatedPage, error) {
	return call(ctx, h.gate, func(api *wire.Client) (shared.RelatedPage, error) { return api.Related(ctx, req) })
}

// Settle records the outcome of a step that Run deferred, or of any other open step of a recall. key is the
// [shared.Event.Key] of the event. Settle returns once the outcome is on disk. A step that is settled already keeps its
// outcome. After [shared.OutcomeFailed] the step is delivered again after a delay, and the ledger shows cause. If the
// event or the step does not exist, or the step still waits for other steps, or there is a cause without OutcomeFailed,
// the error is a [*shared.FieldError].
func (h *Host) Settle(ctx context.Context, key, step string, outcome shared.Outcome, cause error) error {
	if !outcome.Settles() && outcome != shared.OutcomeFailed {
		return shared.Invalidf("outcome", "is %q; a step is settled as %s, %s, %s or %s", outcome, shared.OutcomeDone,
			shared.OutcomeNothingToDo, shared.OutcomeUnsupported, shared.OutcomeFailed)
	}
	if cause != nil && outcome != shared.OutcomeFailed {
		return shared.Invalidf("cause", "is set, and the outcome is %s: only %s has one", outcome, shared.OutcomeFailed)
	}
	return h.worker.reports.settle(ctx, wire.Settlement{Key: key, Step: step, Outcome: outcome,
		Error: wire.StepError(cause)})
}

// Retry delivers the failed attempts of these steps again now, without waiting for the rest of their delay. Without
// steps it does so for all. If this host does not have a step, the error is a [*shared.FieldError].
func (h *Host) Retry(ctx context.Context, steps ...string) error {
	_, err := call(ctx, h.gate, func(api *wire.Client) (struct{}, error) { return struct{}{}, api.Retry(ctx, steps) })
	return err
}

// Backup writes one consistent version of the index to w, with everything that was acknowledged before the call. The
// plugin serves calls meanwhile. Restore the backup with recall-plugin index restore. If the plugin ends during the
// backup, Backup fails with [shared.ErrUnavailable]: discard what was written and call Backup again.
func (h *Host) Backup(ctx context.Context, w io.Writer) error {
	var held time.Time
	p, err := h.gate.enter(ctx, smallCall, &held)
	if err != nil {
		return err
	}
	// Leave at once: a backup may take minutes, and neither a swap nor the calls after a crash wait for it.
	h.gate.leave(smallCall, false)
	if err := p.api.Backup(ctx, w); err != nil {
		return fmt.Errorf("back up the index: %w; the backup is incomplete: discard it and start again", err)
	}
	return nil
}

// Reload makes the plugin read its rule files now, and returns their diagnostics. If one is an error, the rules in
// force stay. The plugin also watches the files by itself: call Reload to get the diagnostics, or to avoid the wait.
//
// Reload does not put plugin.hcl in force. For each setting in it that differs from the one in force, Reload adds a
// warning that says how to put it in force, as in State.Pending.
func (h *Host) Reload(ctx context.Context) (shared.Diagnostics, error) {
	ds, err := call(ctx, h.gate, func(api *wire.Client) (shared.Diagnostics, error) { return api.Reload(ctx) })
	if err != nil {
		return nil, err
	}
	return append(ds, h.supervisor.updatePending()...), nil
}

// Upgrade replaces the running plugin by another binary. No call is lost: calls are held while the index is handed
// over. If a step fails, or ctx ends, before the new plugin has answered a call, the old plugin stays in force or is
// started again, and the error is a [*shared.UpgradeError]. A second upgrade waits for the first.
func (h *Host) Upgrade(ctx context.Context, b Binary) (UpgradeReport, error) {
	return h.supervisor.upgrade(ctx, h.running, b)
}
