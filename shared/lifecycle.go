package shared

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Lifecycle is the SDK's side door into a plugin process; a chat server never calls it. A process starts in
// standby, where only Describe, Prepare, Health and Metrics answer.
type Lifecycle interface {
	// Describe tells what this binary is.
	Describe(ctx context.Context) (Description, error)

	// Prepare reads and checks the configuration file (an absolute path) and everything it names, and opens
	// nothing that another process may hold. What is wrong with the files is a diagnostic, not an error. Broken rule files
	// are warnings if the last policy that was in force takes their place.
	Prepare(ctx context.Context, configFile string) (Diagnostics, error)

	// Expect tells a plugin in standby which index this host used last. Activate then refuses another index, and one that
	// is missing or was emptied, with ErrDamaged; an older copy of it begins a new epoch.
	Expect(ctx context.Context, index IndexIdentity) error

	// Activate takes the index, waiting for its lock until ctx ends, and begins to answer calls. steps are those that the
	// host carries out. Every other step of a recall that is committed from then on is recorded as unsupported. Where such
	// a step is open from before, it stays open until a host that carries it out is activated.
	Activate(ctx context.Context, steps []string) error

	// Flush makes the index quick to take over, while the plugin goes on serving: what another process would have to
	// replay is written out. A swap does so first; it may be left out, or cut short by ctx.
	Flush(ctx context.Context) error

	// Quiesce stops taking calls, answers those under way and releases the index. The process stays, to say so.
	Quiesce(ctx context.Context) error

	// Health answers at once, beside the work, and tells how that gets on. An index that is damaged, or can no longer
	// vouch for its disk, is an error.
	Health(ctx context.Context) (Health, error)

	// Reload reads the rules again and puts them in force if they are without error. Otherwise the rules in force
	// stay, and the diagnostics say what is wrong.
	Reload(ctx context.Context) (Diagnostics, error)

	// Metrics tells the plugin's counters and gauges, ordered by name.
	Metrics(ctx context.Context) ([]Metric, error)

	// Backup writes one committed version of the index to w, while the plugin serves.
	Backup(ctx context.Context, w io.Writer) error
}

// Description is what a plugin binary says of itself.
type Description struct {
	Name             string `json:"name"`
	Version          string `json:"version"`
	ProtocolVersions []int  `json:"protocol_versions"` // wire majors it serves, ascending
	IndexFormat      int    `json:"index_format"`      // the format version of the index it reads and writes

	// Capabilities are what this process offers beyond its protocol version, such as CapabilityLane, which the wire adds
	// by itself. A host ignores those that it does not know.
	Capabilities []string `json:"capabilities,omitempty"`
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
	Rules  RulesState
	Index  IndexIdentity // zero in standby

	// Waiting is how many calls wait for the index or are under way in it; Done grows with everything that it gets done. A
	// plugin in which calls wait, and nothing is done, is hung; one in which much waits and something is done is busy.
	Waiting int
	Done    uint64
}

// RulesState tells which rules are in force, and why what is on disk is not. It is zero before a good Prepare, and of
// a plugin from before it was told.
type RulesState struct {
	Digest   string      `json:"digest,omitempty"`   // SHA-256 of the rules in force, hex: the PolicyDigest of events
	Paths    []string    `json:"paths,omitempty"`    // the files and folders that are followed; none: the built-in policy
	LoadedAt time.Time   `json:"loaded_at,omitzero"` // when the rules came into force
	Warnings Diagnostics `json:"warnings,omitempty"` // about the rules in force
	Refused  Diagnostics `json:"refused,omitempty"`  // why the files as they are now are not in force; none: they are

	// Fallback says that the files were refused when the plugin started, and that the last policy that was in force before
	// decides until they are mended.
	Fallback bool `json:"fallback,omitempty"`
}

// Severity orders diagnostics.
type Severity string

// An error keeps a file from being used; a warning does not.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Diagnostic is one thing to say about a configuration or rule file.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	Summary  string   `json:"summary"`
	Detail   string   `json:"detail,omitempty"`
	File     string   `json:"file,omitempty"`
	Line     int      `json:"line,omitempty"`   // from 1; 0 when the diagnostic is about no line
	Column   int      `json:"column,omitempty"` // from 1, in characters
	Source   string   `json:"source,omitempty"` // the line itself
}

// Diagnostics is a list of them, in the order of the files.
type Diagnostics []Diagnostic

// HasErrors tells whether any of them is an error.
func (ds Diagnostics) HasErrors() bool {
	for _, d := range ds {
		if d.Severity == SeverityError {
			return true
		}
	}
	return false
}

// Err is the errors among the diagnostics as one error, nil where there is none.
func (ds Diagnostics) Err() error {
	var errs Diagnostics
	for _, d := range ds {
		if d.Severity == SeverityError {
			errs = append(errs, d)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return &DiagnosticsError{Diagnostics: errs}
}

// String is one line: file:line:column: severity: summary; detail.
func (d Diagnostic) String() string {
	s := string(d.Severity) + ": " + d.Summary
	if d.Detail != "" {
		s += "; " + d.Detail
	}
	if d.File == "" {
		return s
	}
	if d.Line == 0 {
		return d.File + ": " + s
	}
	return fmt.Sprintf("%s:%d:%d: %s", d.File, d.Line, d.Column, s)
}

// Metric is one counter or gauge; counters end in _total.
type Metric struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

// IndexIdentity names an index, one restore of it, and how far it has come.
type IndexIdentity struct {
	ID      string `json:"id"`      // of the index, for its life
	Epoch   string `json:"epoch"`   // of the index since it was made or restored from a copy; cursors are of one epoch
	Version uint64 `json:"version"` // of its last commit
}
