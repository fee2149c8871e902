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

func sizeOfMessages(msgs []shared.Message) int64 {
	n := int64(smallCall)
	for i := range msgs {
		m := &msgs[i]
		n += messageFields + int64(len(m.Tenant)+len(m.ID)+len(m.Conversation.ID)+len(m.Sender)) +
			sizeOfList(m.Attachments) + sizeOfList(m.Labels)
	}
	return n
}

func sizeOfRecall(req *shared.RecallRequest) int64 {
	return sizeOfMessages(req.Messages) +
		int64(len(req.Tenant)+len(req.Actor.ID)+len(req.Ext)+len(req.Reason)+len(req.RecallID)) +
		sizeOfList(req.MessageIDs) + sizeOfList(req.ConversationLabels)
}

func sizeOfSince(req *shared.SinceRequest) int64 {
	n := int64(smallCall + len(req.Tenant))
	for _, c := range req.Conversations {
		n += int64(len(c.ID)) + listEntry
	}
	return n
}
