package journal

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/shared"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		runChild(path)
		return
	}
	goleak.VerifyTestMain(m)
}

var start = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

// open opens an index and its log. A test settles one step after the other, so settlements do not wait.
func open(ctx context.Context, path string) (*Local, error) {
	x, err := index.Open(ctx, index.Options{Path: path})
	if err != nil {
		return nil, err
	}
	l := NewLocal(x)
	l.queue.mu.Lock()
	l.queue.maxDelay = 0
	l.queue.mu.Unlock()
	return l, nil
}

func openAt(t testing.TB, path string) *Local {
	t.Helper()
	l, err := open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func openNew(t testing.TB) *Local { return openAt(t, t.TempDir()) }

func apply(t testing.TB, l Log, ops ...index.Op) []index.Result {
	t.Helper()
	results, err := l.Append(context.Background(), ops)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func message(id string, attachments ...string) shared.Message {
	return shared.Message{
		Tenant: "acme", ID: id, Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g1"}, Sender: "ann",
		Type: shared.TypeText, SentAt: start, Attachments: attached(attachments...),
	}
}

// attached are attachments of the sender.
func attached(keys ...string) (list []shared.Attachment) {
	for _, key := range keys {
		list = append(list, shared.Attachment{Key: key})
	}
	return list
}

func put(m shared.Message) index.Op { return index.Op{Put: &m} }

func recall(id string, m shared.Message, steps ...string) index.Op {
	if steps == nil {
		steps = shared.StandardSteps()
	}
	return index.Op{Recall: &index.Recall{Steps: steps, Event: shared.Event{
		Tenant: m.Tenant, RecallID: id, Actor: shared.Actor{ID: m.Sender}, Role: shared.RoleMember, Ext: "ext",
		RecalledAt: start.Add(time.Minute), Message: m, Rule: shared.Rule{Name: "r", File: "f.hcl", Line: 3},
		PolicyDigest: "abc", Disposition: shared.DispositionErase,
	}}}
}

func settle(sequence uint64, step string, o shared.Outcome) index.Op {
	return index.Op{Settle: &index.Settle{Sequence: sequence, Step: step, Outcome: o, At: start.Add(2 * time.Minute)}}
}

// known reports whether the index has a message.
func known(t testing.TB, l *Local, id string) bool {
	t.Helper()
	r, err := l.index.Messages("acme", []string{id})
	if err != nil {
		t.Fatal(err)
	}
	return r[0] != nil
}

// count counts the messages m0… of an index, from the first to one that is missing.
func count(t *testing.T, path string) int {
	t.Helper()
	l := openAt(t, path)
	for n := 0; ; n++ {
		if !known(t, l, fmt.Sprint("m", n)) {
			return n
		}
	}
}
