// Package engine is what the plugin answers its host: wire.Plugin over the index and the rules.
package engine

import (
	"context"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	hclconfig "github.com/chat-recall/recall/internal/config"
	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/plugin/internal/clock"
	"github.com/chat-recall/recall/plugin/internal/config"
	"github.com/chat-recall/recall/plugin/internal/delivery"
	"github.com/chat-recall/recall/plugin/internal/journal"
	"github.com/chat-recall/recall/rules"
	"github.com/chat-recall/recall/shared"
)

// Name is what the plugin calls itself.
const Name = "recall-plugin"

// Options of an Engine.
type Options struct {
	Version string       // of the binary
	Logger  hclog.Logger // nil for nothing
	Clock   clock.Clock  // nil for the machine's

	Lend func(folder *os.File) // see index.Options

	// EntryFormat is the newest format of the entries of a log that this version reads; journal.EntryFormat if it is 0.
	EntryFormat int

	// OpenCluster connects to the log that a configuration names. It is called by Prepare, so that calls are not held
	// meanwhile. nil: this plugin is no node of a cluster.
	// An existing log is not created if it is missing.
	OpenCluster func(ctx context.Context, c *hclconfig.ClusterBlock, existing bool, logger hclog.Logger) (ClusterLink,
		error)
}

// Engine is wire.Plugin. It passes through its states once: standby, active, quiesced.
type Engine struct {
	version string
	logger  hclog.Logger
	clock   clock.Clock
	lend    func(folder *os.File)
	counts  *counters
	audit   *auditLog
	limiter *rules.Limiter // what was spent of the limits of the rules; it outlives any policy
	runner  *runner        // of jobs
	asked   atomic.Uint64  // calls of the host, but for settlements
	busy    atomic.Bool    // it called while the last slice of work was done

	forgotten    forgotten
	keepMessages atomic.Int64 // index.keep_messages in nanoseconds; 0: for ever

	// turn is held by whoever prepares, activates, reloads or releases: one at a time, and none waits for it longer
	// than its ctx. It guards expected and config.
	turn     chan struct{}
	expected *shared.IndexIdentity // what the host used last; nil: it knows of none
	config   *config.Config        // of the last Prepare, nil where that had errors
	link     ClusterLink           // of that configuration; nil on a single machine

	entryFormat int
	openCluster func(context.Context, *hclconfig.ClusterBlock, bool, hclog.Logger) (ClusterLink, error)

	progress atomic.Pointer[func() (done uint64, what string)] // of what Activate is about to do; nil: nothing

	stop     context.Context // ends when the engine is quiesced
	quiesce  context.CancelFunc
	released chan struct{} // closed when the index is released, after which releaseErr says how that went

	keeping sync.Mutex // held while the policy in force is kept

	mu         sync.Mutex // guards what follows, and is held for moments only
	state      wire.State
	reason     string // why it is not active
	since      time.Time
	rules      *rules.Watcher // the policy in force; nil before a good Prepare
	keepErr    error          // why the policy in force could not be kept
	active     *active        // in StateActive
	calls      sync.WaitGroup
	releaseErr error
}

var _ wire.Plugin = (*Engine)(nil)

// active is what there is while the engine is active.
type active struct {
	index      *index.Index // for reads
	log        journal.Log  // orders writes, and owns the index
	cluster    *cluster     // nil on a single machine
	dispatcher *delivery.Dispatcher
	opener     *delivery.Opener
	chores     *chores
	rules      *rules.Watcher
	kept       string // the file that the policy in force is kept in

	steps       []string            // that the host carries out, sorted
	after       map[string][]string // for each of steps, those of them that are settled first, see index.Recall
	all         []string            // the steps of a recall whose rule names none, in the order of the ledger
	unsupported []string            // those of all that the host does not carry out
}

// New makes an engine in standby. Quiesce releases what it took.
func New(o Options) *Engine {
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.EntryFormat == 0 {
		o.EntryFormat = journal.EntryFormat
	}
	e := &Engine{
		entryFormat: o.EntryFormat,
		version:     o.Version, logger: o.Logger, clock: o.Clock, lend: o.Lend, openCluster: o.OpenCluster,
		limiter: rules.NewLimiter(), counts: newCounters(),
		turn: make(chan struct{}, 1), released: make(chan struct{}),
		state: wire.StateStandby, reason: "not activated yet", since: o.Clock.Now(),
	}
	e.stop, e.quiesce = context.WithCancel(context.Background())
	e.audit = newAuditLog(e.stop, e.logger, e.clock)
	e.runner = newRunner(e, &jobSource{engine: e}, &forgetSource{e}, &expireSource{engine: e})
	return e
}

// newActive puts together what answers calls. steps are valid.
func (e *Engine) newActive(x *index.Index, log journal.Log, c *cluster, steps []wire.StepPlan) *active {
	sorted := names(steps)
	a := &active{
		index: x, log: log, cluster: c, rules: e.followed(), kept: keptPath(e.config.IndexPath), steps: sorted,
		after:      wire.StepOrder(steps),
		dispatcher: delivery.NewDispatcher(x, sorted, e.clock, e.logger),
		opener:     delivery.NewOpener(x, log, sorted, e.clock, e.logger),
	}
	a.chores = newChores(e, a)
	a.all, a.unsupported = ledger(slices.Concat(shared.StandardSteps(), sorted), sorted)
	e.counts.hasSteps(sorted)
	log.OnOpen(func(step string, first uint64) {
		a.dispatcher.Open(step, first)
		a.chores.recalled()
		if step == shared.StepNotify {
			a.opener.Recalled()
		}
	})
	return a
}

// names are those of the steps of a host, sorted.
func names(steps []wire.StepPlan) []string {
	list := make([]string, len(steps))
	for i, s := range steps {
		list[i] = s.Name
	}
	slices.Sort(list)
	return list
}

// stepsOf are the steps of a recall, in the order of the ledger, and those of them that nobody carries out.
func (a *active) stepsOf(o *rules.OnRecall) (steps, unsupported []string, err error) {
	if a.cluster != nil {
		carried, err := a.cluster.steps()
		if err != nil {
			return nil, nil, err
		}
		list := o.Steps
		if list == nil {
			list = slices.Concat(shared.StandardSteps(), carried)
		}
		steps, unsupported = ledger(list, carried)
		return steps, unsupported, nil
	}
	if o.Steps == nil {
		return a.all, a.unsupported, nil
	}
	steps, unsupported = ledger(o.Steps, a.steps)
	return steps, unsupported, nil
}

// ledger puts the standard steps of a list first, in their order, and then the others, by name. It lists those apart
// that are not carried out.
func ledger(list, carried []string) (steps, unsupported []string) {
	for _, step := range slices.Concat(shared.StandardSteps(), slices.Sorted(slices.Values(list))) {
		if !slices.Contains(list, step) || slices.Contains(steps, step) {
			continue
		}
		steps = append(steps, step)
		if !slices.Contains(carried, step) {
			unsupported = append(unsupported, step)
		}
	}
	return steps, unsupported
}

// now is the time, to the microsecond to which times are kept.
func (e *Engine) now() time.Time { return micros(e.clock.Now()) }

// moment is when a call arrived, by both times of the clock.
type moment struct {
	now     time.Time
	elapsed time.Duration
}

func (e *Engine) moment() moment { return moment{e.now(), e.clock.Elapsed()} }

func micros(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
