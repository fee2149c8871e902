package shared

import (
	"strings"
	"time"
)

// The steps of a recall that every host knows by the same name. A host may have others of its own.
const (
	StepNotify      = "notify"      // tell the clients; the other steps wait until it is settled, for at most 30 s
	StepHistory     = "history"     // remove the message from the history store
	StepOffline     = "offline"     // remove it from the queues of users who are away
	StepRoaming     = "roaming"     // remove it from what a new device synchronizes
	StepAttachments = "attachments" // delete Event.Attachments
	StepSearch      = "search"      // remove it from the search index
	StepPush        = "push"        // withdraw it from push notifications
)

// StandardSteps are the steps of every recall, in the order in which a ledger lists them.
func StandardSteps() []string {
	return []string{StepNotify, StepHistory, StepOffline, StepRoaming, StepAttachments, StepSearch, StepPush}
}

const stepLetters = "abcdefghijklmnopqrstuvwxyz0123456789_-"

// ValidateStep checks the name of a step: 1 to MaxStepBytes of lower case letters, digits, _ and -. The error names
// field.
func ValidateStep(field, step string) error {
	if step == "" || len(step) > MaxStepBytes || strings.Trim(step, stepLetters) != "" {
		return Invalidf(field, "%.80q is no step name: 1 to %d of a-z, 0-9, _ and -", step, MaxStepBytes)
	}
	return nil
}

// Outcome is the result of one attempt of a step. It is empty while the step is open and was not tried.
type Outcome string

// The outcomes. Done, NothingToDo and Unsupported settle the step.
const (
	OutcomeDone        Outcome = "done"
	OutcomeNothingToDo Outcome = "nothing_to_do"
	OutcomeUnsupported Outcome = "unsupported" // the host has no such step; never to be read as done
	OutcomeFailed      Outcome = "failed"      // the step is delivered again after a delay

	// OutcomeDeferred is returned by a step that somebody else carries out. It is not recorded and counts as no attempt.
	// The step stays open, and is not delivered again until Host.Settle reports that it failed, or the plugin or the
	// host starts again.
	OutcomeDeferred Outcome = "deferred"
)

// Settles reports whether a step with this outcome is closed.
func (o Outcome) Settles() bool {
	return o == OutcomeDone || o == OutcomeNothingToDo || o == OutcomeUnsupported
}

// StepRecord is the state of one step in a ledger.
type StepRecord struct {
	Step    string  `json:"step"`
	Outcome Outcome `json:"outcome,omitempty"` // empty: open and not tried yet; failed: open, to be tried again

	// Attempts counts the attempts that had an outcome. One that was given up and succeeds late counts once.
	Attempts  int       `json:"attempts"`
	Error     string    `json:"error,omitempty"` // of the last failed attempt, at most MaxStepErrorBytes
	ChangedAt time.Time `json:"changed_at,omitzero"`
}
