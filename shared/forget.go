package shared

import "time"

// ForgetRequest asks to erase what the index knows of messages of one tenant. Exactly one of Sender, Conversation and
// Before is set.
type ForgetRequest struct {
	Tenant string `json:"tenant"`

	// Sender: all messages of this sender. In messages and recalls of others that name the sender, as the owner of an
	// attachment or as the actor, [Forgotten] takes the place of the name.
	Sender string `json:"sender,omitempty"`

	Conversation Conversation `json:"conversation,omitzero"` // all messages of this conversation
	Before       time.Time    `json:"before,omitzero"`       // all messages that were sent before
}

// Forgotten stands for the name of a sender who was forgotten.
const Forgotten = "(forgotten)"

// ForgetResult says how far the work of a ForgetRequest is. After a crash of the plugin, or if another node of the
// cluster does the work, the counts of a result that is Done may be too low.
type ForgetResult struct {
	// Done: everything is erased that was indexed before the first call of this request. If it is false, the work goes on
	// in the background, also after a crash of the plugin or of the server: call Forget again with the same request to
	// follow it. Each call has what is left looked at again, so pause for a second before it.
	Done bool `json:"done"`

	Live     int `json:"live"`     // messages that were erased and were not recalled; they are unknown now
	Recalled int `json:"recalled"` // messages that were erased and were recalled; they stay recalled
	Replaced int `json:"replaced"` // messages of others in which the name of the sender was replaced

	// Waiting is the number of recalled messages that were not erased or changed yet, because a step of their recall is
	// open: without the facts the server could not carry it out. Recalls that wait for their message, and jobs that run,
	// count too. The work looks at them again a minute later, or sooner; with millions of messages, some minutes later.
	Waiting int `json:"waiting"`
}
