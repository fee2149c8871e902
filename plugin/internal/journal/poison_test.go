package journal

import (
	"errors"
	"strings"
	"testing"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/journal/journaltest"
	"github.com/chat-recall/recall/shared"
)

// TestReplicated_TextThatIsNotUTF8 checks that what cannot be in an index is refused before it is in the log, where no
// node could apply it, and that it takes no other call along.
func TestReplicated_TextThatIsNotUTF8(t *testing.T) {
	const bad = "\xff"
	n := startNode(t, journaltest.NewStream())
	apply(t, n.log, put(message("m")))
	ref, tenant := message("x"), message("x")
	ref.Ref, tenant.Tenant = bad, bad
	failed := settle(1, shared.StepNotify, shared.OutcomeFailed)
	failed.Settle.Attempt, failed.Settle.Error = 1, bad
	for name, op := range map[string]index.Op{
		"the ref of a message":    put(ref),
		"the tenant of a message": put(tenant),
		"an error":                failed,
		"a label":                 {Amend: &shared.Amendment{Tenant: "acme", MessageID: "m", Labels: []string{bad}}},
	} {
		t.Run(name, func(t *testing.T) {
			answers := make(chan error, 2)
			n.log.push(&call{ops: []index.Op{op}, answer: func(_ []index.Result, err error) { answers <- err }})
			answer := func(_ []index.Result, err error) { answers <- err }
			n.log.push(&call{ops: []index.Op{put(message("good"))}, answer: answer})
			n.log.queue.signal()
			if err := <-answers; err == nil {
				t.Error("it is taken")
			}
			if err := <-answers; err != nil {
				t.Errorf("the call beside it: %v", err)
			}
		})
	}
}

func TestReplicated_AttemptThatNoNodeReads(t *testing.T) {
	op := settle(1, shared.StepNotify, shared.OutcomeDone)
	op.Settle.Attempt = 1 << 31
	if err := index.CheckOps([]index.Op{op}); !errors.Is(err, shared.ErrInvalid) { // it would halt every node
		t.Error(err)
	}
}

func TestDecodeEntry_Hostile(t *testing.T) {
	calls := [][]index.Op{{put(message("m"))}}
	named := settle(1, shared.StepNotify, shared.OutcomeDone)
	named.Settle.Node = "a\x00@b"
	for name, e := range map[string]index.LogEntry{
		"a node with a NUL":       {Node: "a\x00b", Process: 1, Number: 1, Calls: calls},
		"a node with an @":        {Node: "a@b", Process: 1, Number: 1, Calls: calls},
		"no node":                 {Process: 1, Number: 1, Calls: calls},
		"a long node":             {Node: strings.Repeat("n", 65), Process: 1, Number: 1, Calls: calls},
		"no process":              {Node: "n0", Number: 1, Calls: calls},
		"a settlement by no node": {Node: "n0", Process: 1, Number: 1, Calls: [][]index.Op{{named}}},
	} {
		data, err := encodeEntry(&e, EntryFormat)
		if err != nil {
			continue
		}
		if _, err := decodeEntry(data, EntryFormat); !errors.Is(err, index.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
