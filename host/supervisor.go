package host

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/config"
	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

// Times of the supervisor. A disk that stalls for some seconds is no hang; a person notices a hang of much more.
const (
	healthEvery    = 2 * time.Second
	healthDeadline = 8 * time.Second

	// activateTimeout is for waiting for the index's lock and replaying what a killed plugin left. What takes longer, as
	// restoring a snapshot of a cluster, shows progress: then it is for how long there may be none.
	activateTimeout = time.Minute

	quiesceTimeout = 10 * time.Second // then the plugin is killed, which loses nothing

	firstBackoff = 100 * time.Millisecond // before the second start; the first is at once
	lastBackoff  = 30 * time.Second
	quietTime    = time.Minute // for a plugin that nobody calls, see lost
	maxCrashes   = 8           // in a row; then calls are no longer held

	// A plugin that does its work and then ends, again and again, is started at once the first time, and a little
	// later each time, so that it does not keep the machine busy.
	recentTime    = 30 * time.Second
	recentBackoff = 10 * time.Millisecond // for each recent end
	maxRecent     = 500 * time.Millisecond
)

// A supervisor owns the plugin process. One goroutine, in run, holds all of its state but what mu guards.
type supervisor struct {
	settings settings
	plan     *config.File // what settings.file says for a configuration in Go; nil: that is a file of the server's own
	runDir   string
	steps    []wire.StepPlan
	gate     *gate
	logger   hclog.Logger
	onState  func(State)
	lastUsed *lastUsed

	turn  chan struct{} // held by the one upgrade that is under way, and for good once the host is closed
	swaps chan *upgrade // prepared, for run to carry out

	current *process     // nil while none is in force
	binary  stagedBinary // what to start when it ends
	format  int          // of the index that it keeps; 0 before any was in force

	started time.Time // when current was published
	crashes int       // in a row

	first    bool      // no plugin has been in force yet
	rollback bool      // the old binary is to be started again after an upgrade that failed
	recent   float64   // ends of plugins, of which each counts half after recentTime
	lastEnd  time.Time // of a plugin

	progress progress // of current

	retiring sync.WaitGroup // processes that are killed and not yet reaped

	telling sync.Mutex // held while onState is called, so that it gets the states one by one and in order
	mu      sync.Mutex
	state   State
	inForce *config.File // plugin.hcl as the current plugin, or the last, read it; nil before the first
}

// bringUp starts a process of the binary and has it answer.
func (s *supervisor) bringUp(ctx context.Context, b stagedBinary) (*process, error) {
	p, err := s.standby(ctx, b)
	if err != nil {
		return nil, err
	}
	if err := s.activate(ctx, p); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// standby starts a process of the binary and has it check its configuration.
func (s *supervisor) standby(ctx context.Context, b stagedBinary) (*process, error) {
	p, err := launch(ctx, b, s.runDir, s.settings.Plugin.StartTimeout, s.logger)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.settings.Plugin.StartTimeout)
	defer cancel()
	if s.plan != nil { // it may have been removed with the run directory
		err = writeConfig(s.settings.file, s.plan)
	}
	if err == nil {
		err = p.prepare(ctx, s.settings.file, s.logger)
	}
	if err == nil {
		p.config, err = s.settings.sameIndex()
	}
	if err == nil {
		err = p.expect(ctx, s.lastUsed.index())
	}
	if err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

func (s *supervisor) activate(ctx context.Context, p *process) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watching sync.WaitGroup
	defer watching.Wait()
	ended := make(chan struct{})
	defer close(ended)
	watching.Go(func() {
		if isStuck(ended, p.api.Health, healthEvery, activateTimeout) {
			cancel(fmt.Errorf("it is not active, and has shown no progress for %s", activateTimeout))
		}
	})
	err := p.activate(ctx, s.steps)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

// retire kills a process at once, so that whoever waits for its index has it, and clears up after it in the background.
func (s *supervisor) retire(p *process) {
	p.retired.Store(true)
	freed := p.release()
	s.logger.Debug("old plugin killed", "pid", p.pid(), "index_freed_by_host", freed)
	s.retiring.Go(p.kill)
}

// publish puts p in force, and counts restarts.
func (s *supervisor) publish(p *process, restarts int) {
	s.current, s.binary, s.format, s.started = p, p.binary, p.desc.IndexFormat, time.Now()
	s.first = false
	s.update(func(st *State) {
		s.gate.open(p) // with the state, so that whoever is answered by p sees that it is in force
		s.inForce = p.config
		st.Phase, st.Step, st.PID, st.Version = PhaseRunning, "", p.pid(), p.desc.Version
		st.Restarts += restarts
		st.Binary, st.SHA256, st.Rules = p.binary.source, p.binary.sha256, p.rules
		st.Index, st.Damaged = p.index, false
	})
	s.lastUsed.keepIndex(p.index)
	s.lastUsed.keepBinary(PreviousBinary{p.binary.source, p.binary.sha256, p.desc.Version})
	s.logger.Info("plugin in force", "version", p.desc.Version, "pid", p.pid(), "sha256", p.binary.sha256)
}

// begin makes run start the first plugin.
func (s *supervisor) begin(b stagedBinary) {
	s.binary, s.first = b, true
	s.update(func(st *State) {
		st.Phase, st.Binary, st.SHA256 = PhaseRestarting, b.source, b.sha256
	})
}

// update changes the state that others see.
func (s *supervisor) update(change func(*State)) {
	s.telling.Lock()
	defer s.telling.Unlock()
	s.mu.Lock()
	before := s.state.Phase
	change(&s.state)
	if s.state.Phase != before {
		s.state.Since = time.Now()
	}
	st := s.state
	s.mu.Unlock()
	if s.onState != nil {
		s.onState(st)
	}
}

// run keeps the plugin alive until ctx ends, then ends it in good order.
func (s *supervisor) run(ctx context.Context) {
	health := time.NewTicker(healthEvery)
	defer health.Stop()
	retry := time.NewTimer(0)
	if s.current != nil {
		retry.Stop()
	}
	for {
		var exited <-chan struct{}
		if s.current != nil {
			exited = s.current.exited()
		}
		select {
		case <-ctx.Done():
			retry.Stop()
			s.shut()
			return
		case <-exited:
			s.lost(s.current.death())
			retry.Reset(s.backoff())
		case <-retry.C:
			if s.current == nil && !s.revive(ctx) {
				retry.Reset(s.backoff())
			}
		case u := <-s.swaps:
			u.done <- s.swap(u)
			if s.rollback {
				retry.Reset(0)
			}
		case <-health.C:
			if s.current == nil {
				continue
			}
			if err := s.checkHealth(ctx); err != nil {
				s.gate.hold()
				s.current.kill()
				if s.current.child.endedByItself() {
					err = s.current.death()
				} else {
					err = s.current.withLastLines(fmt.Errorf("killed by its host: %w", err))
				}
				s.lost(err)
				retry.Reset(s.backoff())
			}
		}
	}
}

// lost removes the plugin in force, which has ended.
func (s *supervisor) lost(cause error) {
	p := s.current
	s.current = nil
	// One that did its work, or lived for long, was no part of a row of failures: it is started again at once.
	if p.answered.Load() > 0 || time.Since(s.started) >= quietTime {
		s.crashes = 0
	}
	now := time.Now()
	s.recent = 1 + s.recent*math.Exp2(-float64(now.Sub(s.lastEnd))/float64(recentTime))
	s.lastEnd = now
	s.gate.crashed()
	s.gate.hold()
	s.noteCrash(fmt.Errorf("plugin %s (pid %d): %w", p.desc.Version, p.pid(), cause))
	p.kill() // what is left of it
}

// firstLineError shortens an error to its first line for callers. The log and the state have all of it.
type firstLineError struct{ error }

func (e firstLineError) Error() string {
	line, _, _ := strings.Cut(e.error.Error(), "\n")
	return line
}

func (e firstLineError) Unwrap() error { return e.error }

// noteCrash counts one more end or failed start, and after too many of them stops holding calls.
func (s *supervisor) noteCrash(cause error) {
	s.crashes++
	phase := PhaseRestarting
	if s.crashes >= maxCrashes || errors.Is(cause, shared.ErrDamaged) { // another start would find the same files
		phase = PhaseFailed
		s.gate.refuse(fmt.Errorf("%w: it failed %d times in a row, last: %w", shared.ErrUnavailable, s.crashes,
			firstLineError{cause}))
	}
	s.logger.Error("plugin lost", "error", cause, "in_a_row", s.crashes)
	s.update(func(st *State) {
		st.Phase, st.PID, st.Error = phase, 0, cause.Error()
		st.Damaged = errors.Is(cause, shared.ErrDamaged)
	})
}

// backoff is how long to wait before the next start. After failures in a row that is nothing at first, then twice as
// long each time; after the end of a plugin that did its work it grows slowly. Jitter keeps many hosts from starting
// their plugins in step.
func (s *supervisor) backoff() time.Duration {
	d := min(time.Duration((s.recent-1)*float64(recentBackoff)), maxRecent)
	if s.crashes > 1 {
		d = max(d, min(firstBackoff<<min(s.crashes-2, 16), lastBackoff))
	}
	if d <= 1 {
		return 0
	}
	return d/2 + rand.N(d/2)
}

// revive starts the plugin again.
func (s *supervisor) revive(ctx context.Context) bool {
	rollback := s.rollback
	s.rollback = false
	p, err := s.bringUp(ctx, s.binary)
	if errors.Is(err, errCopy) { // removed or changed: it is made again, if what it was made from is still the same
		s.logger.Warn("private copy of the plugin is lost, copying it again", "error", err)
		if _, stageErr := stage(s.runDir, Binary{Path: s.binary.source, SHA256: s.binary.sha256}); stageErr != nil {
			err = errors.Join(err, stageErr)
		} else {
			p, err = s.bringUp(ctx, s.binary)
		}
	}
	if ctx.Err() != nil {
		if err == nil {
			s.current = p // for shut
		}
		return true
	}
	if err != nil {
		s.noteCrash(err)
		return false
	}
	restarts := 1
	if rollback || s.first {
		restarts = 0
	}
	s.publish(p, restarts)
	return true
}

// checkHealth returns what is wrong with a plugin that lives but does not answer, or answers wrongly. It updates the
// rules and the index in State.
func (s *supervisor) checkHealth(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, healthDeadline)
	defer cancel()
	answered := s.current.answered.Load()
	health, err := s.current.api.Health(bounded)
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil && s.current.child.endsWithin(deathPatience): // run sees that next
		return nil
	case err != nil && bounded.Err() != nil:
		return s.progress.silent(s.current.answered.Load() - answered)
	case err != nil:
		return fmt.Errorf("its health call failed: %w", err)
	case health.State != wire.StateActive:
		return fmt.Errorf("it is %s: %s", health.State, health.Reason)
	}
	if err := s.progress.healthy(s.current, health, time.Now()); err != nil {
		return err
	}
	s.lastUsed.keepIndex(health.Index)
	// Only this goroutine writes them, so it reads them without mu.
	if !reflect.DeepEqual(health.Rules, s.state.Rules) || health.Index.Epoch != s.state.Index.Epoch ||
		!reflect.DeepEqual(health.Cluster, s.state.Cluster) {
		s.update(func(st *State) { st.Rules, st.Index, st.Cluster = health.Rules, health.Index, health.Cluster })
	}
	return nil
}

// shut ends the plugin: calls under way are answered, the index is released.
func (s *supervisor) shut() {
	defer s.retiring.Wait()
	s.gate.refuse(errClosed)
	if p := s.current; p != nil {
		s.current = nil
		ctx, cancel := context.WithTimeout(context.Background(), quiesceTimeout)
		defer cancel()
		if err := s.gate.drain(ctx); err != nil {
			s.logger.Warn("calls still under way when the host was closed", "error", err)
		}
		if health, err := p.api.Health(ctx); err == nil {
			s.lastUsed.keepIndex(health.Index) // how far it came at last
		}
		if err := p.api.Quiesce(ctx); err != nil {
			s.logger.Warn("plugin did not quiesce, killing it", "error", err)
		}
		p.kill()
	}
	s.update(func(st *State) { st.Phase, st.PID = PhaseClosed, 0 })
}
