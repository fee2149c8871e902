package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/chat-recall/recall/internal/badgerdir"
	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/plugin/internal/config"
	"github.com/chat-recall/recall/shared"
)

// Describe tells what this binary is.
func (s *Engine) Describe(context.Context) (shared.Description, error) {
	return Describe(s.version), nil
}

// Describe tells what a binary of this version is.
func Describe(version string) shared.Description {
	return shared.Description{
		Name: Name, Version: version, IndexFormat: index.Format,
		ProtocolVersions: slices.Sorted(maps.Keys(wire.VersionedPlugins(nil))),
	}
}

// Prepare is wire.Lifecycle. It may be repeated until the engine is activated; the last one holds. From then on the
// rules follow their files: a change between Prepare and Activate is not lost, and a bad one keeps nobody from
// activating.
func (s *Engine) Prepare(ctx context.Context, configFile string) (shared.Diagnostics, error) {
	if !filepath.IsAbs(configFile) {
		return nil, shared.Invalidf("config_file", "%.200q is not an absolute path", configFile)
	}
	if err := s.takeTurn(ctx, wire.StateStandby); err != nil {
		return nil, err
	}
	defer s.endTurn()
	s.config = nil
	cfg, ds := config.Load(configFile)
	if cfg == nil {
		s.unfollow()
		return ds, nil
	}
	if err := index.CheckSpace(cfg.IndexPath); err != nil {
		d := shared.Diagnostic{Severity: shared.SeverityWarning, Summary: err.Error(), File: configFile,
			Detail: "the index is opened for reads only until the disk has enough free space"}
		if badgerdir.Held(cfg.IndexPath) { // by a plugin that answers reads already: another one would be no better off
			d.Severity, d.Detail = shared.SeverityError, ""
		}
		ds = append(ds, d)
	}
	if ds = append(ds, s.follow(cfg)...); !ds.HasErrors() {
		s.config = cfg
	}
	return ds, nil
}

// Expect is wire.Lifecycle.
func (s *Engine) Expect(ctx context.Context, index shared.IndexIdentity) error {
	if err := s.takeTurn(ctx, wire.StateStandby); err != nil {
		return err
	}
	defer s.endTurn()
	if index.ID != "" {
		s.expected = &index
	}
	return nil
}

// Backup is wire.Lifecycle.
func (s *Engine) Backup(ctx context.Context, w io.Writer) error {
	a, leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.stop, cancel)() // Quiesce does not wait for it
	return a.index.Backup(ctx, w)
}

// answerMargin is how long before its caller gives up Activate does, so that the caller learns what it waited for;
// of a short wait it is a quarter.
const answerMargin = 200 * time.Millisecond

// Activate is wire.Lifecycle. Repeating it with the same steps changes nothing.
func (s *Engine) Activate(ctx context.Context, steps []string) error {
	if err := validateSteps(steps); err != nil {
		return err
	}
	if err := s.takeTurn(ctx, wire.StateStandby, wire.StateActive); err != nil {
		return err
	}
	defer s.endTurn()
	if a, leave, err := s.enter(); err == nil {
		defer leave()
		if !slices.Equal(a.steps, slices.Sorted(slices.Values(steps))) {
			return fmt.Errorf("%w: already active for the steps %q; a new process takes others", shared.ErrUnavailable, a.steps)
		}
		return nil
	}
	if s.config == nil {
		return fmt.Errorf("%w: not prepared; call Prepare with a configuration file that has no errors", shared.ErrUnavailable)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if deadline, ok := ctx.Deadline(); ok {
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-min(answerMargin, time.Until(deadline)/4)))
		defer cancel()
	}
	defer context.AfterFunc(s.stop, cancel)() // Quiesce does not wait for a lock that is not needed any more
	x, err := index.Open(ctx, index.Options{
		Path: s.config.IndexPath, Create: s.config.IndexCreate, Known: s.expected, Lend: s.lend,
		Logger: s.logger.Named("index"),
	})
	if err != nil {
		if errors.Is(err, index.ErrLocked) { // else the wire would say no more than that time is up
			err = fmt.Errorf("%w: %w", shared.ErrUnavailable, err)
		}
		s.mu.Lock()
		if s.state == wire.StateStandby {
			s.reason = err.Error()
		}
		s.mu.Unlock()
		return err
	}
	s.fallBackAgain()
	a := s.newActive(x, steps)
	s.mu.Lock()
	taken := s.state == wire.StateStandby
	if taken {
		s.active = a
		s.setState(wire.StateActive, "")
		go a.opener.run(s.stop)
	}
	s.mu.Unlock()
	if !taken {
		if err := a.local.Close(); err != nil {
			return fmt.Errorf("release the index: %w", err)
		}
		return s.unavailable()
	}
	s.keep()
	s.logger.Info("active", "index", s.config.IndexPath, "steps", steps, "policy", a.rules.Policy().Digest())
	return nil
}

func validateSteps(steps []string) error {
	if len(steps) > shared.MaxSteps {
		return shared.Invalidf("steps", "%d steps; at most %d", len(steps), shared.MaxSteps)
	}
	for i, step := range steps {
		field := fmt.Sprintf("steps[%d]", i)
		if err := shared.ValidateStep(field, step); err != nil {
			return err
		}
		if first := slices.Index(steps, step); first < i {
			return shared.Invalidf(field, "is the same as steps[%d]", first)
		}
	}
	return nil
}

// Flush is wire.Lifecycle.
func (s *Engine) Flush(ctx context.Context) error {
	a, leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.stop, cancel)() // Quiesce does not wait for what it does itself
	return a.local.Flush(ctx)
}

// Quiesce is wire.Lifecycle. It may be called in any state and again; where ctx ends first the engine goes on
// releasing the index, and a further call waits for that.
func (s *Engine) Quiesce(ctx context.Context) error {
	s.mu.Lock()
	if s.state != wire.StateQuiesced {
		s.setState(wire.StateQuiesced, "quiesced; the next process takes over")
		s.quiesce()
		go s.release(s.active)
		s.active = nil
	}
	s.mu.Unlock()
	select {
	case <-s.released:
		return s.releaseErr
	case <-ctx.Done():
		return fmt.Errorf("quiesce: calls are still under way: %w", ctx.Err())
	}
}

// release waits for those who still use the index, and closes it.
func (s *Engine) release(a *active) {
	defer close(s.released)
	s.turn <- struct{}{} // an Activate under way ends, and finds that it has to give back what it took
	defer s.endTurn()
	defer s.unfollow() // after the index was released: a file system with rules may hang
	if a == nil {
		return
	}
	a.dispatcher.close(s.unavailable())
	<-a.opener.done
	s.calls.Wait()
	if err := a.local.Close(); err != nil {
		s.releaseErr = fmt.Errorf("release the index: %w", err)
		s.logger.Error("the index was not released cleanly", "error", err)
		return
	}
	s.logger.Info("quiesced")
}

// Health is wire.Lifecycle.
func (s *Engine) Health(context.Context) (wire.Health, error) {
	h := wire.Health{Rules: s.rulesState()}
	if a, leave, err := s.enter(); err == nil {
		defer leave()
		if err := a.index.Failure(); err != nil {
			return wire.Health{}, fmt.Errorf("the index does not answer: %w", err)
		}
		h.Index = a.index.Identity()
		h.Waiting, h.Done = a.local.Progress()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h.State, h.Reason, h.Since = s.state, s.reason, s.since
	return h, nil
}

// setState is called with mu held.
func (s *Engine) setState(state wire.State, reason string) {
	s.state, s.reason, s.since = state, reason, s.clock.Now()
}

// takeTurn waits for its turn, in one of the states.
func (s *Engine) takeTurn(ctx context.Context, states ...wire.State) error {
	select {
	case s.turn <- struct{}{}:
	case <-s.stop.Done():
		return s.unavailable()
	case <-ctx.Done():
		return fmt.Errorf("wait for another change of the plugin's state: %w", ctx.Err())
	}
	s.mu.Lock()
	state := s.state
	s.mu.Unlock()
	if !slices.Contains(states, state) {
		s.endTurn()
		return s.unavailable()
	}
	return nil
}

func (s *Engine) endTurn() { <-s.turn }

// enter begins a call that uses the index, which stays open until leave.
func (s *Engine) enter() (a *active, leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active == nil {
		return nil, nil, s.why()
	}
	s.calls.Add(1)
	return s.active, s.calls.Done, nil
}

// unavailable says why there is no answer in this state.
func (s *Engine) unavailable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why()
}

// why is unavailable with mu held.
func (s *Engine) why() error {
	if s.state == wire.StateActive {
		return fmt.Errorf("%w: it is active already", shared.ErrUnavailable)
	}
	return fmt.Errorf("%w: it is in %s: %s", shared.ErrUnavailable, s.state, s.reason)
}
