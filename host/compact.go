package host

import (
	"context"
	"fmt"
	"time"

	"github.com/chat-recall/recall/shared"
)

// compactTimeout is how long a plugin may take to put the new files of its index in place, while calls are held. It is
// below swapTimeout, so that the next plugin still waits for the index then.
const compactTimeout = 8 * time.Second

// A CompactReport describes a compaction of the index.
type CompactReport struct {
	Took time.Duration `json:"took"` // for writing the new files, in nanoseconds; calls were served meanwhile
	Held time.Duration `json:"held"` // how long calls were held, in nanoseconds
}

// Compact writes the index into new files that have no byte of what was forgotten before: ids, reasons, ext and
// attachment keys. The old ones are removed. Cursors stay valid. Calls are served while the new files are written, at
// half the speed of the disk and of one processor. Then they are held while a new process of the plugin takes over, as
// in an upgrade. The disk needs free space for a second index, and the file system has to exchange folders, as ext4,
// XFS and Btrfs do.
//
// If Compact fails, or the plugin or the server ends meanwhile, the index is as it was: call Compact again. The error
// is a [*shared.UpgradeError]. Copies of the index and, in a cluster, its log and its snapshots keep what they have.
func (h *Host) Compact(ctx context.Context) (CompactReport, error) {
	return h.supervisor.compact(ctx, h.running)
}

// compact replaces the running plugin by a new process of the same binary, and the index by a copy in between.
func (s *supervisor) compact(ctx, running context.Context) (CompactReport, error) {
	var out CompactReport
	report, err := s.replace(ctx, running, StepCompact, func(u *upgrade) error {
		if err := s.await(u.ctx); err != nil {
			return &shared.UpgradeError{Step: StepCompact, Cause: err}
		}
		old := s.gate.inForce()
		if old == nil {
			return &shared.UpgradeError{Step: StepCompact, Cause: fmt.Errorf("%w: it is being restarted",
				shared.ErrUnavailable)}
		}
		u.compacts = old
		err := u.step(StepCompact, func() error { return old.api.Compact(u.ctx) })
		if err != nil {
			return err
		}
		out.Took = u.report.Steps[len(u.report.Steps)-1].Took
		if err := s.prepareNext(u, old.binary); err != nil {
			return err
		}
		return s.handOver(u)
	})
	out.Held = report.Held
	return out, err
}

// await waits for a plugin in force.
func (s *supervisor) await(ctx context.Context) error {
	_, err := s.gate.current(ctx)
	return err
}
