package main

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/chat-recall/recall/shared"
)

// ids numbers the messages of all loads.
var ids atomic.Int64

// speedStart is when the first message was sent: so long ago that no message of a run is ahead of the clock.
var speedStart = time.Now().Add(-24 * time.Hour)

// speedMessage is the message of a number. Its id is like a ULID: in order of time, with a random tail. A thousand
// senders write in a hundred groups.
func speedMessage(n int64) shared.Message {
	x := uint64(n) * 0x9e3779b97f4a7c15
	x ^= x >> 29
	x *= 0xbf58476d1ce4e5b9
	return shared.Message{
		Tenant: tenant, ID: fmt.Sprintf("01JD%08X%014X", n, x>>8),
		Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: fmt.Sprintf("group-%d", x%100)},
		Sender:       fmt.Sprintf("user-%d", x%1000), Type: shared.TypeText,
		SentAt: speedStart.Add(time.Duration(n) * time.Microsecond),
	}
}

// newMessages are the next n messages.
func newMessages(n int) []shared.Message {
	last := ids.Add(int64(n))
	return messagesFrom(last-int64(n)+1, n)
}

func messagesFrom(first int64, n int) []shared.Message {
	msgs := make([]shared.Message, n)
	for i := range msgs {
		msgs[i] = speedMessage(first + int64(i))
	}
	return msgs
}

func recallID(n int64) string { return fmt.Sprintf("01930000-0000-7000-8000-%012x", n) }

// A dataset is the messages with which an index or a database is filled before it is measured.
type dataset struct{ first, size int64 }

// reserve sets numbers aside for n messages.
func reserve(n int64) dataset { return dataset{first: ids.Add(n) - n + 1, size: n} }

// some is one message of the dataset, another for each n.
func (s dataset) some(n int) shared.Message {
	return speedMessage(s.first + int64(uint64(n)*0x9e3779b97f4a7c15>>1)%s.size)
}
