package wire

import (
	"context"
	"io"
	"time"

	"github.com/chat-recall/recall/shared"
)

// Lifecycle is the SDK's side door into a plugin process; a chat server never calls it. A process starts in
// standby, where only Describe, Prepare, Expect, Activate, Health and Metrics answer.
type Lifecycle interface {
	// Describe tells what this binary is.
	Describe(ctx context.Context) (shared.Description, error)

	// Prepare reads and checks the configuration file (an absolute path) and everything it names, and opens
	// nothing that another process may hold. What is wrong with the files is a diagnostic, not an error. Broken rule files
	// are warnings if the last policy that was in force takes their place.
	Prepare(ctx context.Context, configFile string) (shared.Diagnostics, error)

	// Expect tells a plugin in standby which index this host used last. Activate then refuses another index, and one that
	// is missing or was emptied, with ErrDamaged; an older copy of it begins a new epoch.
	Expect(ctx context.Context, index shared.IndexIdentity) error

	// Activate takes the index, waiting for its lock until ctx ends, and begins to answer calls. steps are those that the
	// host carries out. Every other step of a recall that is committed from then on is recorded as unsupported. Where such
	// a step is open from before, it stays open until a host that carries it out is activated. The order of the steps of a
	// recall is the one in force when it is committed.
	Activate(ctx context.Context, steps []StepPlan) error

	// Flush makes the index quick to take over, while the plugin goes on serving: what another process would have to
	// replay is written out. A swap does so first; it may be left out, or cut short by ctx.
	Flush(ctx context.Context) error

	// Compact writes the index into new files, while the plugin goes on serving, and returns when they are complete.
	// Quiesce then puts them in the place of the index; they are given up if it is not called within a minute. The new
	// files have no byte of what was forgotten before the call. The disk needs free space for a second index.
	Compact(ctx context.Context) error

	// Quiesce stops taking calls, answers those under way and releases the index. The process stays, to say so.
	Quiesce(ctx context.Context) error

	// Health answers at once, beside the work, and tells how that gets on. An index that is damaged, or can no longer
	// vouch for its disk, is an error.
	Health(ctx context.Context) (Health, error)

	// Reload reads the rules again and puts them in force if they are without error. Otherwise the rules in force
	// stay, and the diagnostics say what is wrong.
	Reload(ctx context.Context) (shared.Diagnostics, error)

	// Metrics returns the metrics of the plugin, ordered by name and labels.
	Metrics(ctx context.Context) ([]shared.Metric, error)

	// Backup writes one committed version of the index to w, while the plugin serves.
	Backup(ctx context.Context, w io.Writer) error
}

// State is where a plugin process stands.
type State string

// The states of a plugin process, in the order they are passed.
const (
	StateStandby  State = "standby"  // configuration checked, index closed
	StateActive   State = "active"   // the only state that answers Recall
	StateQuiesced State = "quiesced" // every call answered, the index released
)

// Health is a plugin's own report.
type Health struct {
	State  State
	Reason string    // why it is not active; empty when it is
	Since  time.Time // when it entered State
	Rules  shared.RulesState
	Index  shared.IndexIdentity // zero in standby

	Cluster *shared.ClusterState // nil on a single machine, and in standby

	// Waiting is how many calls wait for the index or are under way in it; Done grows with everything that it gets done. A
	// plugin in which calls wait, and nothing is done, is hung; one in which much waits and something is done is busy.
	Waiting int
	Done    uint64
}
