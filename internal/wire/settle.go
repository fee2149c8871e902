package wire

import "github.com/chat-recall/recall/shared"

// Settlement is the outcome of one attempt of one step of an event.
type Settlement struct {
	Sequence uint64 // of the event; 0: Key names it
	Key      string // Event.Key, where Sequence is 0
	Step     string
	Attempt  int // Delivery.Attempt, from 1; 0: the next
	Outcome  shared.Outcome
	Error    string // of OutcomeFailed; at most MaxStepErrorBytes
}

// NewSettlement is the outcome of a delivery. Of cause it keeps MaxStepErrorBytes.
func NewSettlement(d *shared.Delivery, outcome shared.Outcome, cause error) Settlement {
	return Settlement{Sequence: d.Sequence, Step: d.Step, Attempt: d.Attempt, Outcome: outcome, Error: StepError(cause)}
}

// StepError is the text of an error as a ledger keeps it.
func StepError(cause error) string {
	if cause == nil {
		return ""
	}
	return clipText(cause.Error(), shared.MaxStepErrorBytes)
}
