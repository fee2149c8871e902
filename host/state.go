package host

import (
	"time"

	"github.com/chat-recall/recall/shared"
)

// Phase says whether the plugin runs, and what the host does with it.
type Phase string

// The phases. Calls are held during PhaseRestarting, and for a moment during PhaseUpgrading.
const (
	PhaseRunning   Phase = "running"   // a plugin answers
	PhaseUpgrading Phase = "upgrading" // a plugin answers, and another one is about to replace it
	// PhaseRestarting: the plugin ended by itself and is being started again; also the first start with Config.Background
	PhaseRestarting Phase = "restarting"
	// PhaseFailed: the plugin does not start; calls get shared.ErrUnavailable, and the host keeps trying to start it
	PhaseFailed Phase = "failed"
	PhaseClosed Phase = "closed"
)

// State is the state of the plugin, for logs, operators and metrics.
type State struct {
	Phase    Phase     `json:"phase"`
	Step     string    `json:"step,omitempty"` // of the upgrade under way: StepVerify and so on
	Since    time.Time `json:"since"`          // when Phase began
	PID      int       `json:"pid,omitempty"`
	Version  string    `json:"version,omitempty"` // of the plugin in force, or of the last one
	Binary   string    `json:"binary"`            // the file that the plugin was copied from
	SHA256   string    `json:"sha256"`            // of that copy
	Restarts int       `json:"restarts"`          // since Open, after the plugin ended by itself
	Upgrades int       `json:"upgrades"`          // since Open, those that succeeded
	Damaged  bool      `json:"damaged,omitempty"` // the index is damaged, missing or another index: see Error
	Error    string    `json:"error,omitempty"`   // why the plugin last ended or did not start, or the last upgrade failed

	// Index is the index that the plugin in force has open. Its epoch changes when it is restored from a backup. Its
	// version is the one at which the plugin in force opened it.
	Index shared.IndexIdentity `json:"index"`

	// Previous is the binary that was in force when the last host with this run directory ended, if Open started another
	// one. The reason is either that Upgrade put Previous in force, which does not change plugin.hcl, or that plugin.hcl
	// now names another binary. The next successful upgrade clears it.
	Previous *PreviousBinary `json:"previous,omitempty"`

	// Rules says which rules the plugin in force, or the last one, decides by, and why the files on disk are not in force.
	// A change of the files is in force within two seconds and seen here within four. If Rules.Fallback is set, the files
	// were broken when the plugin started, and the last good policy decides.
	Rules shared.RulesState `json:"rules"`

	// Cluster is what the plugin in force knows of its cluster; nil on a single machine. It is as of the last health call,
	// and the plugin is called every two seconds.
	Cluster *shared.ClusterState `json:"cluster,omitempty"`

	// Pending has a warning for each setting of plugin.hcl that differs from the one in force. The warning says how to put
	// the setting in force. Errors of the file are here as warnings: the next start would refuse the file. A change of
	// plugin.hcl is seen here within a few seconds, and by Host.Reload at once.
	Pending shared.Diagnostics `json:"pending,omitempty"`
}
