package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/chat-recall/recall/shared"
)

// drainTime is how long an upgrade waits for calls under way before it goes on without them; they are repeated on the
// new plugin, which is safe and takes no longer than it would to wait for an old one that is stuck.
const drainTime = 5 * time.Millisecond

// flushTimeout is how long an upgrade waits for the old plugin to write out what the new one would have to replay. It
// goes on without, and then calls are held for longer.
const flushTimeout = 3 * time.Second

// swapTimeout is how long a new plugin may take to open the index, from when it begins to wait for it, and to answer:
// all that time calls are held. An index that was left by a crash at full rate opens in two or three seconds.
const swapTimeout = 10 * time.Second

// An UpgradeReport describes an upgrade up to the step where it ended. From and To are empty if it failed before they
// were known.
type UpgradeReport struct {
	From  shared.Description `json:"from"`
	To    shared.Description `json:"to"`
	Steps []UpgradeStep      `json:"steps"` // in the order in which they were done
	Held  time.Duration      `json:"held"`  // how long calls were held, in nanoseconds
}

// UpgradeStep is one step of an upgrade.
type UpgradeStep struct {
	Name string        `json:"name"`
	Took time.Duration `json:"took"` // in nanoseconds
}

// The steps of an upgrade. State.Step names the current one.
const (
	StepVerify  = "verify"  // the binary is copied and checked
	StepCompact = "compact" // instead, of Host.Compact: the old plugin writes the index into new files
	StepPrepare = "prepare" // the new plugin starts in standby, describes itself, and checks its configuration
	StepFlush   = "flush"   // the old plugin writes to tables what the new one would have to replay
	// StepDrain: new calls are held; calls in flight have 5 ms to be answered, and are repeated if they are not
	StepDrain    = "drain"
	StepRelease  = "release"  // the old plugin ends, which releases the index; Host.Compact: with the new files
	StepActivate = "activate" // the new plugin opens the index and answers a call; then it is in force
)

type upgrade struct {
	ctx    context.Context // ends with the caller or with the host, whichever is first
	onStep func(name string)
	next   *process // prepared
	report UpgradeReport
	done   chan error

	compacts   *process // that puts new files of the index in place when it releases it; nil: none does
	compactErr error    // why it did not
}

// step does one step and takes its time.
func (u *upgrade) step(name string, do func() error) error {
	u.onStep(name)
	if u.ctx.Err() != nil {
		return &shared.UpgradeError{Step: name, Cause: context.Cause(u.ctx)}
	}
	start := time.Now()
	err := do()
	u.report.Steps = append(u.report.Steps, UpgradeStep{Name: name, Took: time.Since(start)})
	if err != nil {
		if errors.Is(context.Cause(u.ctx), errClosed) { // which is why it failed
			err = errClosed
		}
		return &shared.UpgradeError{Step: name, Cause: err}
	}
	return nil
}

// upgrade puts another process in the place of the one in force. Whatever fails before it is published brings the old
// version back: as long as the old process lives by simply leaving it in force, afterwards from its private copy.
//
// It verifies and prepares on the caller's own goroutine, while run goes on to watch over the plugin in force, and has
// run do the swap. turn keeps a second upgrade waiting.
func (s *supervisor) upgrade(ctx, running context.Context, b Binary) (UpgradeReport, error) {
	report, err := s.replace(ctx, running, StepVerify, func(u *upgrade) error { return s.prepareAndSwap(u, b) })
	s.update(func(st *State) {
		if err == nil {
			st.Upgrades++
			st.Error, st.Previous = "", nil
		} else {
			st.Error = err.Error()
		}
	})
	return report, err
}

// replace has do put another process in the place of the one in force. first is the name of its first step.
func (s *supervisor) replace(
	ctx, running context.Context, first string, do func(*upgrade) error,
) (UpgradeReport, error) {
	u := &upgrade{done: make(chan error, 1)}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return u.report, &shared.UpgradeError{Step: first, Cause: ctx.Err()}
	case <-running.Done():
		return u.report, &shared.UpgradeError{Step: first, Cause: errClosed}
	}
	var cancel context.CancelCauseFunc
	u.ctx, cancel = context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(running, func() { cancel(errClosed) })()
	u.onStep = func(name string) { s.update(func(st *State) { st.Step = name }) }
	s.update(func(st *State) {
		if st.Phase == PhaseRunning {
			st.Phase = PhaseUpgrading
		}
	})
	err := do(u)
	s.update(func(st *State) {
		st.Step = ""
		if st.Phase == PhaseUpgrading {
			st.Phase = PhaseRunning
		}
	})
	return u.report, err
}

func (s *supervisor) prepareAndSwap(u *upgrade, b Binary) (err error) {
	var staged stagedBinary
	err = u.step(StepVerify, func() (err error) {
		staged, err = stage(s.runDir, b)
		return err
	})
	if err != nil {
		return err
	}
	defer func() {
		s.mu.Lock()
		inForce := s.state.SHA256
		s.mu.Unlock()
		if err != nil && staged.sha256 != inForce {
			_ = os.Remove(staged.path)
		}
	}()
	if err := s.prepareNext(u, staged); err != nil {
		return err
	}
	return s.handOver(u)
}

// prepareNext starts the process that is to be in force.
func (s *supervisor) prepareNext(u *upgrade, b stagedBinary) error {
	err := u.step(StepPrepare, func() (err error) {
		u.next, err = s.standby(u.ctx, b)
		return err
	})
	if err == nil {
		u.report.To = u.next.desc
	}
	return err
}

// handOver puts the prepared process in force. It ends it if that fails.
func (s *supervisor) handOver(u *upgrade) (err error) {
	if err := u.step(StepFlush, func() error { return s.flush(u.ctx, u.next.desc) }); err != nil {
		u.next.kill()
		return err
	}
	select {
	case s.swaps <- u:
		err = <-u.done
	case <-u.ctx.Done():
		err = &shared.UpgradeError{Step: StepDrain, Cause: context.Cause(u.ctx)}
	}
	if err != nil {
		u.next.kill()
		return err
	}
	return u.compactErr
}

// flush has the plugin in force, if there is one, make its index quick for next to take over. That it could not is no
// failure.
func (s *supervisor) flush(ctx context.Context, next shared.Description) error {
	p := s.gate.inForce()
	if p == nil || p.desc.IndexFormat != next.IndexFormat { // which swap refuses
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	if err := p.api.Flush(bounded); err != nil && !errors.Is(err, shared.ErrUnimplemented) {
		s.logger.Warn("the old plugin did not flush, so the new one will take longer to open the index", "error", err)
	}
	return ctx.Err()
}

// fits refuses a plugin that could not read the index of the one in force, or would leave one that the old version
// could not be brought back to. (The wire's version is refused by the handshake.)
func (s *supervisor) fits(next shared.Description) error {
	if s.format != 0 && s.format != next.IndexFormat {
		return fmt.Errorf("plugin %s %s has index format %d, the index has format %d: an upgrade needs the same, and no "+
			"plugin opens an index of another format; keep a plugin of format %[4]d",
			next.Name, next.Version, next.IndexFormat, s.format)
	}
	return nil
}

// swap hands the index from old, which may be nil or die meanwhile, to next.
//
// The plugin is crash-only: what it acknowledged is on disk. So once no call is under way the fastest way to release
// the index is also a clean one, which is to kill the process; a plugin that hangs is released no differently. next
// waits for the index's lock by then. (bench swap measures this beside a clean Close and Open.)
func (s *supervisor) swap(u *upgrade) error {
	old, next := s.current, u.next
	if err := s.fits(next.desc); err != nil {
		return &shared.UpgradeError{Step: StepPrepare, Cause: err}
	}
	if old != nil {
		u.report.From = old.desc
	}
	if u.compacts != nil && u.compacts != old {
		return &shared.UpgradeError{Step: StepDrain, Cause: fmt.Errorf("%w: the plugin ended that had written the index "+
			"into new files", shared.ErrUnavailable)}
	}
	activated := make(chan error, 1)
	go func() {
		defer close(activated)
		ctx, cancel := context.WithTimeout(u.ctx, swapTimeout)
		defer cancel()
		activated <- next.activate(ctx, s.steps)
	}()
	giveUp := func(err error) error {
		next.kill()
		for range activated { // until it has seen that
		}
		if s.current != nil {
			s.gate.open(s.current)
		} else {
			s.rollback = true // run starts the old binary again, at once
			s.update(func(st *State) { st.Phase, st.PID = PhaseRestarting, 0 })
		}
		return err
	}
	held := time.Now()
	s.gate.hold()
	if old != nil {
		err := u.step(StepDrain, func() error {
			bounded, cancel := context.WithTimeout(u.ctx, drainTime)
			defer cancel()
			_ = s.gate.drain(bounded) // calls that are not done by then are repeated
			return nil
		})
		if err != nil {
			return giveUp(err)
		}
		err = u.step(StepRelease, func() error {
			select {
			case err := <-activated:
				if err != nil { // next has failed already, and old need not go
					return err
				}
			case <-next.exited():
				return cmp.Or(<-activated, next.death())
			default:
			}
			s.current = nil
			if u.compacts != nil {
				bounded, cancel := context.WithTimeout(u.ctx, compactTimeout)
				defer cancel()
				if err := old.api.Quiesce(bounded); err != nil {
					u.compactErr = &shared.UpgradeError{Step: StepRelease, Cause: fmt.Errorf("the index is as it was: %w", err)}
				}
			}
			s.retire(old)
			return nil
		})
		if err != nil {
			return giveUp(err)
		}
	}
	if err := u.step(StepActivate, func() error { return <-activated }); err != nil {
		return giveUp(err)
	}
	s.crashes = 0
	s.publish(next, 0)
	u.report.Held = time.Since(held)
	keep := []string{next.binary.path, next.socketDir}
	if old != nil {
		keep = append(keep, old.binary.path) // the way back, should this one be regretted
	}
	sweep(s.runDir, s.logger, keep...)
	return nil
}
