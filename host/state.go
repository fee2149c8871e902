package host

import (
	"time"

	"github.com/chat-recall/recall/shared"
)

// Phase is what the host is doing about its plugin.
type Phase string

// The phases. Calls are held while PhaseRestarting, and for a moment of PhaseUpgrading.
const (
	PhaseRunning   Phase = "running"   // a plugin answers
	PhaseUpgrading Phase = "upgrading" // one answers and another is being put in its place
	// PhaseRestarting: the plugin ended by itself and is being started again; with Config.Background also at first
	PhaseRestarting Phase = "restarting"
	// PhaseFailed: the plugin does not start; calls get shared.ErrUnavailable, and the host goes on starting it
	PhaseFailed Phase = "failed"
	PhaseClosed Phase = "closed"
)

// State tells a host author, an operator or a metric how the plugin is.
type State struct {
	Phase    Phase     `json:"phase"`
	Step     string    `json:"step,omitempty"` // of the upgrade under way: StepVerify and so on
	Since    time.Time `json:"since"`          // when it entered Phase
	PID      int       `json:"pid,omitempty"`
	Version  string    `json:"version,omitempty"` // of the plugin that answers, or answered last
	Binary   string    `json:"binary"`            // the file that it was copied from
	SHA256   string    `json:"sha256"`            // of that copy
	Restarts int       `json:"restarts"`          // since Open, after the plugin ended by itself
	Upgrades int       `json:"upgrades"`          // since Open, that were published
	Damaged  bool      `json:"damaged,omitempty"` // the index is damaged, missing or another one: see Error
	Error    string    `json:"error,omitempty"`   // why it ended or would not start last, or why the last upgrade failed

	// Index is the index that the plugin in force has open. Its epoch changes when it is restored from a backup; its
	// version is what it was when the plugin came into force.
	Index shared.IndexIdentity `json:"index"`

	// Previous is set where Open started another binary than the one that was in force when the last host with this run
	// directory ended: it was put in force by Upgrade, which does not change plugin.hcl, or plugin.hcl names another one
	// now. The next upgrade clears it.
	Previous *PreviousBinary `json:"previous,omitempty"`

	// Rules are those that the plugin in force, or the last one, decides by, and why the files as they are now are not
	// in force. A change of the files is in force within two seconds and seen here within four. With Rules.Fallback the
	// files were broken when the plugin started, and the last good policy decides.
	Rules shared.RulesState `json:"rules"`

	// Pending has a warning for each setting of plugin.hcl that differs from the one in force, with how to put it in
	// force. If the file has errors, they are here as warnings: it would be refused at the next start. A change of
	// plugin.hcl is seen here within a few seconds, and by Host.Reload at once.
	Pending shared.Diagnostics `json:"pending,omitempty"`
}
