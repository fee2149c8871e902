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
	"github.com/chat-recall/recall/plugin/internal/journal"
	"github.com/chat-recall/recall/shared"
)

// Describe tells what this binary is.
func (e *Engine) Describe(context.Context) (shared.Description, error) {
	return Describe(e.version), nil
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
func (e *Engine) Prepare(ctx context.Context, configFile string) (shared.Diagnostics, error) {
	if !filepath.IsAbs(configFile) {
		return nil, shared.Invalidf("config_file", "%.200q is not an absolute path", configFile)
	}
	if err := e.takeTurn(ctx, wire.StateStandby); err != nil {
		return nil, err
	}
	defer e.endTurn()
	e.config = nil
	e.unlink()
	cfg, ds := config.Load(configFile)
	if cfg == nil {
		e.unfollow()
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
	ds = append(ds, e.follow(cfg)...)
	linked, err := e.linkUp(ctx, cfg, configFile)
	if err != nil {
		return ds, err
	}
	if ds = append(ds, linked...); !ds.HasErrors() {
		e.config = cfg
	}
	return ds, nil
}

// Expect is wire.Lifecycle.
func (e *Engine) Expect(ctx context.Context, index shared.IndexIdentity) error {
	if err := e.takeTurn(ctx, wire.StateStandby); err != nil {
		return err
	}
	defer e.endTurn()
	if index.ID != "" {
		e.expected = &index
	}
	return nil
}

// Backup is wire.Lifecycle.
func (e *Engine) Backup(ctx context.Context, w io.Writer) error {
	a, leave, err := e.enter()
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.stop, cancel)() // Quiesce does not wait for it
	return a.index.Backup(ctx, w)
}

// openPatience is how long Activate waits for the lock of the index, where its caller sets no deadline. A host gives up
// a plugin that shows no progress for a minute.
const openPatience = 55 * time.Second

// answerMargin is how long before its caller gives up Activate does, so that the caller learns what it waited for;
// of a short wait it is a quarter.
const answerMargin = 2 * time.Second

// Activate is wire.Lifecycle. Repeating it with the same steps changes nothing.
func (e *Engine) Activate(ctx context.Context, steps []wire.StepPlan) error {
	if err := wire.ValidateSteps(steps); err != nil {
		return err
	}
	if err := e.takeTurn(ctx, wire.StateStandby, wire.StateActive); err != nil {
		return err
	}
	defer e.endTurn()
	if a, leave, err := e.enter(); err == nil {
		defer leave()
		if !slices.Equal(a.steps, names(steps)) || !maps.EqualFunc(a.after, wire.StepOrder(steps), slices.Equal) {
			return fmt.Errorf("%w: already active for the steps %q; a new process takes others, or another order",
				shared.ErrUnavailable, a.steps)
		}
		return nil
	}
	if e.config == nil {
		return fmt.Errorf("%w: not prepared; call Prepare with a configuration file that has no errors",
			shared.ErrUnavailable)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if deadline, ok := ctx.Deadline(); ok {
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-min(answerMargin, time.Until(deadline)/4)))
		defer cancel()
	}
	defer context.AfterFunc(e.stop, cancel)() // Quiesce does not wait for a lock that is not needed any more
	defer e.progress.Store(nil)
	x, err := e.openIndex(ctx)
	var log journal.Log
	var c *cluster
	if err == nil {
		log, c, err = e.newLog(ctx, x, steps)
	}
	if err != nil {
		if errors.Is(err, index.ErrLocked) { // else the wire would say no more than that time is up
			err = fmt.Errorf("%w: %w", shared.ErrUnavailable, err)
		}
		e.mu.Lock()
		if e.state == wire.StateStandby {
			e.reason = err.Error()
		}
		e.mu.Unlock()
		return err
	}
	e.fallBackAgain()
	e.keepMessages.Store(int64(e.config.KeepMessages))
	a := e.newActive(x, log, c, steps)
	e.mu.Lock()
	taken := e.state == wire.StateStandby
	if taken {
		e.active = a
		e.setState(wire.StateActive, "")
		go a.opener.Run(e.stop)
		go a.chores.run(e.stop)
		go e.runner.run(e.stop)
	}
	e.mu.Unlock()
	if !taken {
		if err := a.close(e.logger); err != nil {
			return fmt.Errorf("release the index: %w", err)
		}
		return e.unavailable()
	}
	e.keep()
	e.logger.Info("active", "index", e.config.IndexPath, "steps", a.steps, "policy", a.rules.Policy().Digest())
	return nil
}

// Flush is wire.Lifecycle.
func (e *Engine) Flush(ctx context.Context) error {
	a, leave, err := e.enter()
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.stop, cancel)() // Quiesce does not wait for what it does itself
	return a.log.Flush(ctx)
}

// Compact is wire.Lifecycle.
func (e *Engine) Compact(ctx context.Context) error {
	a, leave, err := e.enter()
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.stop, cancel)()
	began := e.clock.Elapsed()
	err = a.index.Compact(ctx, nil)
	if errors.Is(err, badgerdir.ErrCompacting) {
		return fmt.Errorf("%w: %w", shared.ErrOverloaded, err)
	}
	if err == nil {
		e.logger.Info("the index is written into new files", "took", e.clock.Elapsed()-began)
	}
	return err
}

// Quiesce is wire.Lifecycle. It may be called in any state and again; where ctx ends first the engine goes on
// releasing the index, and a further call waits for that.
func (e *Engine) Quiesce(ctx context.Context) error {
	e.mu.Lock()
	if e.state != wire.StateQuiesced {
		e.setState(wire.StateQuiesced, "quiesced; the next process takes over")
		e.quiesce()
		go e.release(e.active)
		e.active = nil
	}
	e.mu.Unlock()
	select {
	case <-e.released:
		return e.releaseErr
	case <-ctx.Done():
		return fmt.Errorf("quiesce: calls are still under way: %w", ctx.Err())
	}
}

// release waits for those who still use the index, and closes it.
func (e *Engine) release(a *active) {
	defer close(e.released)
	e.turn <- struct{}{} // an Activate under way ends, and finds that it has to give back what it took
	defer e.endTurn()
	defer e.unfollow() // after the index was released: a file system with rules may hang
	defer e.unlink()
	if a == nil {
		return
	}
	a.dispatcher.Close(e.unavailable())
	a.opener.Wait()
	<-a.chores.done
	<-e.runner.done
	e.calls.Wait()
	e.audit.wait()
	if err := a.close(e.logger); err != nil {
		e.releaseErr = fmt.Errorf("release the index: %w", err)
		e.logger.Error("the index was not released cleanly", "error", err)
		return
	}
	e.logger.Info("quiesced")
}

// Health is wire.Lifecycle.
func (e *Engine) Health(context.Context) (wire.Health, error) {
	h := wire.Health{Rules: e.rulesState()}
	if a, leave, err := e.enter(); err == nil {
		defer leave()
		if err := a.index.Failure(); err != nil {
			return wire.Health{}, fmt.Errorf("the index does not answer: %w", err)
		}
		h.Index = a.index.Identity()
		h.Waiting, h.Done = a.log.Progress()
		if a.cluster != nil {
			if err := a.cluster.log.Failure(); errors.Is(err, journal.ErrTrimmed) { // another process begins anew
				return wire.Health{}, err
			}
			if h.Cluster, err = a.cluster.state(); err != nil {
				return wire.Health{}, err
			}
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	h.State, h.Reason, h.Since = e.state, e.reason, e.since
	if progress := e.progress.Load(); progress != nil && h.State == wire.StateStandby {
		h.Waiting = 1
		h.Done, h.Reason = (*progress)()
	}
	return h, nil
}

// setState is called with mu held.
func (e *Engine) setState(state wire.State, reason string) {
	e.state, e.reason, e.since = state, reason, e.clock.Now()
}

// takeTurn waits for its turn, in one of the states.
func (e *Engine) takeTurn(ctx context.Context, states ...wire.State) error {
	select {
	case e.turn <- struct{}{}:
	case <-e.stop.Done():
		return e.unavailable()
	case <-ctx.Done():
		return fmt.Errorf("wait for another change of the plugin's state: %w", ctx.Err())
	}
	e.mu.Lock()
	state := e.state
	e.mu.Unlock()
	if !slices.Contains(states, state) {
		e.endTurn()
		return e.unavailable()
	}
	return nil
}

func (e *Engine) endTurn() { <-e.turn }

// enter begins a call that uses the index, which stays open until leave.
func (e *Engine) enter() (a *active, leave func(), err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.active == nil {
		return nil, nil, e.why()
	}
	e.calls.Add(1)
	return e.active, e.calls.Done, nil
}

// unavailable says why there is no answer in this state.
func (e *Engine) unavailable() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.why()
}

// why is unavailable with mu held.
func (e *Engine) why() error {
	if e.state == wire.StateActive {
		return fmt.Errorf("%w: it is active already", shared.ErrUnavailable)
	}
	return fmt.Errorf("%w: it is in %s: %s", shared.ErrUnavailable, e.state, e.reason)
}
