package host

import "github.com/chat-recall/recall/shared"

// What a request takes on the wire, about: its strings, and some bytes for each field.
const (
	messageFields = 64
	listEntry     = 4
)

func sizeOfList(list []string) int64 {
	n := int64(len(list)) * listEntry
	for _, s := range list {
		n += int64(len(s))
	}
	return n
}

func sizeOfAttachments(list []shared.Attachment) int64 {
	n := int64(len(list)) * 3 * listEntry
	for _, a := range list {
		n += int64(len(a.Key) + len(a.Owner))
	}
	return n
}

func sizeOfMessage(m *shared.Message) int64 {
	return messageFields + int64(len(m.Tenant)+len(m.ID)+len(m.Conversation.ID)+len(m.Sender)+len(m.Ref)) +
		sizeOfAttachments(m.Attachments) + sizeOfList(m.Labels)
}

func sizeOfMessages(msgs []shared.Message) int64 {
	n := int64(smallCall)
	for i := range msgs {
		n += sizeOfMessage(&msgs[i])
	}
	return n
}

func sizeOfAmendments(list []shared.Amendment) int64 {
	n := int64(smallCall)
	for i := range list {
		a := &list[i]
		n += messageFields + int64(len(a.Tenant)+len(a.MessageID)) + sizeOfAttachments(a.Attachments) + sizeOfList(a.Labels)
		if a.Conversation != nil {
			n += int64(len(a.Conversation.ID))
		}
		if a.Ref != nil {
			n += int64(len(*a.Ref))
		}
	}
	return n
}

func sizeOfRecall(req *shared.RecallRequest) int64 {
	n := int64(smallCall+len(req.Tenant)+len(req.Actor.ID)+len(req.Ext)+len(req.Reason)+len(req.RecallID)) +
		sizeOfList(req.Actor.Labels)
	for i := range req.Targets {
		t := &req.Targets[i]
		n += messageFields + int64(len(t.MessageID)+len(t.Conversation.ID)) + sizeOfList(t.Labels)
		if t.Message != nil {
			n += sizeOfMessage(t.Message)
		}
	}
	return n
}

func sizeOfSince(req *shared.SinceRequest) int64 {
	n := int64(smallCall + len(req.Tenant) + len(req.After))
	for _, c := range req.Conversations {
		n += int64(len(c.ID)) + listEntry
	}
	return n
}

func sizeOfJob(req *shared.JobRequest) int64 {
	n := int64(smallCall+len(req.Tenant)+len(req.JobID)+len(req.Actor.ID)+len(req.Ext)+len(req.Reason)+
		len(req.Filter.Sender)) + sizeOfList(req.Actor.Labels) + sizeOfList(req.ConversationLabels) +
		sizeOfList(req.Filter.Labels) + int64(len(req.Filter.Types))*listEntry
	if c := req.Filter.Conversation; c != nil {
		n += int64(len(c.ID))
	}
	return n
}
