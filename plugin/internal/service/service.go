// Package service is what the plugin answers its host: shared.Plugin over the index and the rules.
package service

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/plugin/internal/config"
	"github.com/chat-recall/recall/plugin/internal/index"
	"github.com/chat-recall/recall/rules"
	"github.com/chat-recall/recall/shared"
)

// Name is what the plugin calls itself.
const Name = "recall-plugin"

// Options of a Service.
type Options struct {
	Version string       // of the binary
	Logger  hclog.Logger // nil for nothing
	Clock   Clock        // nil for the machine's
}

// Service is shared.Plugin. It passes through its states once: standby, active, quiesced.
type Service struct {
	version string
	logger  hclog.Logger
	clock   Clock
	counts  counters
	policy  atomic.Pointer[rules.Policy] // in force; nil before a good Prepare
	limiter *rules.Limiter               // what was spent of the limits of the rules; it outlives any policy

	// turn is held by whoever prepares, activates, reloads or releases: one at a time, and none waits for it longer
	// than its ctx. It guards config.
	turn   chan struct{}
	config *config.Config // of the last Prepare, nil where that had errors

	stop     context.Context // ends when the service is quiesced
	quiesce  context.CancelFunc
	released chan struct{} // closed when the index is released, after which releaseErr says how that went

	mu         sync.Mutex // guards what follows, and is held for moments only
	state      shared.State
	reason     string // why it is not active
	since      time.Time
	active     *active // in StateActive
	calls      sync.WaitGroup
	releaseErr error
}

var _ shared.Plugin = (*Service)(nil)

// active is what there is while the service is active.
type active struct {
	index      *index.Index // what there is to read
	log        index.Log    // orders what is written; on one machine the index itself
	dispatcher *dispatcher

	steps       []string // that the host carries out, sorted
	all         []string // the steps of every recall, in the order of the ledger
	unsupported []string // those of all that the host does not carry out
}

// New makes a service in standby. Quiesce releases what it took.
func New(o Options) *Service {
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Clock == nil {
		o.Clock = systemClock{}
	}
	s := &Service{
		version: o.Version, logger: o.Logger, clock: o.Clock, limiter: rules.NewLimiter(),
		turn: make(chan struct{}, 1), released: make(chan struct{}),
		state: shared.StateStandby, reason: "not activated yet", since: o.Clock.Now(),
	}
	s.stop, s.quiesce = context.WithCancel(context.Background())
	return s
}

// newActive puts together what answers calls. steps are valid.
func (s *Service) newActive(x *index.Index, steps []string) *active {
	a := &active{
		index: x, log: x, steps: slices.Sorted(slices.Values(steps)),
		dispatcher: &dispatcher{queues: x, clock: s.clock, random: rand.Float64, logger: s.logger},
	}
	a.all = shared.StandardSteps()
	for _, step := range a.all {
		if !slices.Contains(steps, step) {
			a.unsupported = append(a.unsupported, step)
		}
	}
	for _, step := range steps {
		if !slices.Contains(a.all, step) {
			a.all = append(a.all, step)
		}
	}
	x.OnOpen(a.dispatcher.open)
	return a
}

// now is the moment of a call, to the microsecond to which times are kept.
func (s *Service) now() time.Time { return micros(s.clock.Now()) }

func micros(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
