package index

import "github.com/chat-recall/recall/shared"

// MessageRecord is the key and the value that indexing a new message writes, besides its part of a group and the use of
// its attachments. It is for measurements, like [GroupRecord].
func MessageRecord(m shared.Message) (key, value []byte, err error) {
	m = normal(m)
	value, err = encodeNew(&m)
	return messageKey(m.Tenant, m.ID), value, err
}

// GroupRecord is the key and the value that an entry at a position writes for all messages that it indexes.
func GroupRecord(position uint64, messages []shared.Message) (key, value []byte, err error) {
	var group groupWriter
	for i := range messages {
		m := newMember(&messages[i])
		group.add(&m)
	}
	value, err = group.encode()
	return groupKey(position), value, err
}
