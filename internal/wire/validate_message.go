package wire

import (
	"errors"
	"fmt"

	"github.com/chat-recall/recall/shared"
)

// ValidateBatch checks how many messages or amendments a call has.
func ValidateBatch(field string, n int) error {
	if n > shared.MaxIndexBatch {
		return shared.Invalidf(field, "has %d entries; at most %d a call", n, shared.MaxIndexBatch)
	}
	return nil
}

// InvalidResult is the result of one message of a batch that is refused with a *FieldError.
func InvalidResult(id string, err error) shared.IndexResult {
	r := shared.IndexResult{MessageID: id, Status: shared.IndexInvalid, Problem: err.Error()}
	if f, ok := errors.AsType[*shared.FieldError](err); ok {
		r.Field, r.Problem = f.Field, f.Problem
	}
	return r
}

// under names what a field of err is in. The names of fields are put together where one is wrong, and not for every
// message: that was a tenth of what a plugin allocated.
func under(holder string, err error) error {
	var f *shared.FieldError
	if errors.As(err, &f) {
		return &shared.FieldError{Field: holder + f.Field, Problem: f.Problem}
	}
	return err
}

// ValidateMessage checks one message by itself. The field of the error is relative to the message.
func ValidateMessage(m *shared.Message) error {
	if err := validID("tenant", m.Tenant); err != nil {
		return err
	}
	if err := validID("id", m.ID); err != nil {
		return err
	}
	if err := validateConversation(m.Conversation); err != nil {
		return under("conversation.", err)
	}
	if err := validID("sender", m.Sender); err != nil {
		return err
	}
	if _, ok := messageTypes.number[m.Type]; !ok {
		return shared.Invalidf("type", "unknown message type %.40q; one of %s", m.Type, messageTypes.words())
	}
	if m.SentAt.IsZero() {
		return shared.Invalidf("sent_at", "is not set")
	}
	if err := validTime("sent_at", m.SentAt); err != nil {
		return err
	}
	if len(m.Relations) > 0 {
		if err := validRelations(m.ID, m.Relations); err != nil {
			return err
		}
	}
	return validChangeable(m.Attachments, m.Labels, m.Ref)
}

// validRelations checks the relations of a message.
func validRelations(id string, relations []shared.Relation) error {
	if len(relations) > shared.MaxRelations {
		return shared.Invalidf("relations", "%d entries; at most %d", len(relations), shared.MaxRelations)
	}
	edits := 0
	for i, r := range relations {
		field := func(name string) string { return fmt.Sprintf("relations[%d].%s", i, name) }
		if _, ok := relationKinds.number[r.Kind]; !ok {
			return shared.Invalidf(field("kind"), "unknown kind %.40q; one of %s", r.Kind, relationKinds.words())
		}
		if err := validID("", r.MessageID); err != nil {
			return under(field("message_id"), err)
		}
		if r.MessageID == id {
			return shared.Invalidf(field("message_id"), "is the message itself")
		}
		if r.Kind == shared.RelationEdit {
			edits++
		}
	}
	if edits > 1 {
		return shared.Invalidf("relations", "%d edits; a message edits at most one other", edits)
	}
	return nil
}

// validChangeable checks what Amend can change, the conversation aside.
func validChangeable(attachments []shared.Attachment, labels []string, ref string) error {
	if err := validAttachments(attachments); err != nil {
		return err
	}
	if err := validList("labels", labels, shared.MaxLabels, shared.MaxLabelBytes); err != nil {
		return err
	}
	return validText("ref", ref, shared.MaxRefBytes)
}

func validAttachments(attachments []shared.Attachment) error {
	if len(attachments) > shared.MaxAttachments {
		return shared.Invalidf("attachments", "%d entries; at most %d", len(attachments), shared.MaxAttachments)
	}
	for i, a := range attachments {
		err := validText("key", a.Key, shared.MaxAttachmentBytes)
		if err == nil && a.Key == "" {
			err = shared.Invalidf("key", "is empty")
		}
		if err == nil {
			err = validText("owner", a.Owner, shared.MaxIDBytes)
		}
		if err != nil {
			return under(fmt.Sprintf("attachments[%d].", i), err)
		}
	}
	return nil
}

// ValidateAmendment checks one amendment by itself. The field of the error is relative to the amendment.
func ValidateAmendment(a *shared.Amendment) error {
	if err := validID("tenant", a.Tenant); err != nil {
		return err
	}
	if err := validID("message_id", a.MessageID); err != nil {
		return err
	}
	if a.Conversation != nil {
		if err := validateConversation(*a.Conversation); err != nil {
			return under("conversation.", err)
		}
	}
	ref := ""
	if a.Ref != nil {
		ref = *a.Ref
	}
	return validChangeable(a.Attachments, a.Labels, ref)
}
