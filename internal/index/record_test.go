package index

import (
	"bytes"
	"testing"
	"time"

	"github.com/chat-recall/recall/shared"
)

func FuzzEncodeNew(f *testing.F) {
	f.Add("g1", "ann", "file", "label", int64(1), uint8(0), uint8(1))
	f.Add("\xff", "", "", "\xfe", int64(-5), uint8(1), uint8(7))
	f.Fuzz(func(t *testing.T, conversation, sender, attachment, label string, sentAt int64, kind, messageType uint8) {
		m := &shared.Message{
			Tenant: "acme", ID: "m", Sender: sender, SentAt: time.UnixMicro(sentAt),
			Conversation: shared.Conversation{ID: conversation}, Attachments: attached(attachment, "b"), Labels: []string{label},
		}
		for word, n := range conversationTypes.number {
			if uint8(n) == kind%4 {
				m.Conversation.Type = word
			}
		}
		for word, n := range messageTypes.number {
			if uint8(n) == messageType%10 {
				m.Type = word
			}
		}
		want, wantErr := encode(encodeRecord(&Record{Message: *m}))
		got, err := encodeNew(m)
		if (err != nil) != (wantErr != nil) || !bytes.Equal(got, want) {
			t.Fatalf("%x %v, want %x %v", got, err, want, wantErr)
		}
	})
}
