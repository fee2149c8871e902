package shared_test

import (
	"errors"
	"fmt"

	"github.com/chat-recall/recall/shared"
)

// A client that received the message learns which one it was; one that never received it only learns its id.
func ExampleEvent_Notice() {
	e := shared.Event{RecallID: "r1", Actor: shared.Actor{ID: "ann"}, Message: shared.Message{ID: "m1", Sender: "ann"}}
	fmt.Println(e.Notice(true).Message.Sender)
	fmt.Println(e.Notice(false).MessageID, e.Notice(false).Message)
	// Output:
	// ann
	// m1 <nil>
}

func ExampleParseEventKey() {
	e := shared.Event{Tenant: "acme", RecallID: "r1", Message: shared.Message{ID: "m1"}}
	tenant, recallID, messageID, err := shared.ParseEventKey(e.Key())
	fmt.Println(tenant, recallID, messageID, err)
	// Output: acme r1 m1 <nil>
}

func ExampleWords() {
	fmt.Println(shared.Words(shared.StatusDenied, shared.CodeWindowExpired)["en"])
	// Output: This message is too old to recall.
}

func ExampleFieldError() {
	err := fmt.Errorf("recall: %w", shared.Invalidf("targets[3].message_id", "is empty"))
	var field *shared.FieldError
	if errors.As(err, &field) {
		fmt.Println(field.Field, "-", field.Problem, errors.Is(err, shared.ErrInvalid))
	}
	// Output: targets[3].message_id - is empty true
}
