package shared

import (
	"strings"
	"time"
)

// The standard steps of a recall. A host may have others of its own.
const (
	StepNotify      = "notify"      // tell the clients; the other steps wait until it is settled, for at most 30 s
	StepHistory     = "history"     // remove the message from the history store
	StepOffline     = "offline"     // remove it from the queues of users who are away
	StepRoaming     = "roaming"     // remove it from what a new device synchronizes
	StepAttachments = "attachments" // delete Event.Attachments
	StepSearch      = "search"      // remove it from the search index
	StepPush        = "push"        // withdraw it from push notifications
)

// StandardSteps returns the names of the standard steps, in the order in which a ledger lists them.
func StandardSteps() []string {
	return []string{StepNotify, StepHistory, StepOffline, StepRoaming, StepAttachments, StepSearch, StepPush}
}

const stepLetters = "abcdefghijklmnopqrstuvwxyz0123456789_-"

// ValidateStep checks the name of a step: 1 to MaxStepBytes lower-case letters, digits, _ and -. The error is a
// [*FieldError] that names field.
func ValidateStep(field, step string) error {
	if step == "" || len(step) > MaxStepBytes || strings.Trim(step, stepLetters) != "" {
		return Invalidf(field, "%.80q is no step name: 1 to %d of a-z, 0-9, _ and -", step, MaxStepBytes)
	}
	return nil
}

// Outcome is the result of one attempt of a step. It is empty until the first attempt has a result.
type Outcome string

// The outcomes. OutcomeDone, OutcomeNothingToDo and OutcomeUnsupported settle the step.
const (
	OutcomeDone        Outcome = "done"
	OutcomeNothingToDo Outcome = "nothing_to_do"
	OutcomeUnsupported Outcome = "unsupported" // the host has no such step; do not take it for done
	OutcomeFailed      Outcome = "failed"      // the step is delivered again after a delay

	// OutcomeDeferred says that another part of the system carries the step out and reports the outcome with Host.Settle.
	// It is not recorded, and does not count as an attempt. The step stays open. It is delivered again only after
	// Host.Settle reports a failure, or after the plugin or the host starts again.
	OutcomeDeferred Outcome = "deferred"
)

// Settles reports whether this outcome settles a step.
func (o Outcome) Settles() bool {
	return o == OutcomeDone || o == OutcomeNothingToDo || o == OutcomeUnsupported
}

// StepRecord is the state of one step in a ledger.
type StepRecord struct {
	Step    string  `json:"step"`
	Node    string  `json:"node,omitempty"`    // of the cluster, that carried it out or is to; empty on a single machine
	Outcome Outcome `json:"outcome,omitempty"` // empty: open and not tried yet; failed: open, to be tried again

	// Attempts is the number of attempts that had an outcome. An attempt that was given up and then succeeded counts once.
	Attempts  int       `json:"attempts"`
	Error     string    `json:"error,omitempty"` // of the last failed attempt, at most MaxStepErrorBytes
	ChangedAt time.Time `json:"changed_at,omitzero"`
}
