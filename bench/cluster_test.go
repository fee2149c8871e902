package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/shared"
)

func TestParseFaults(t *testing.T) {
	list, err := parseFaults("stopped,leader")
	if err != nil || len(list) != 2 || list[0].name != "stopped" || list[1].name != "leader" {
		t.Errorf("%+v %v", list, err)
	}
	if _, err := parseFaults("leader,"); err == nil {
		t.Error("a fault without a name is one")
	}
}

func TestJudge(t *testing.T) {
	won := func(id string) *shared.RecallResult {
		return &shared.RecallResult{Status: shared.StatusRecalled, RecallID: id}
	}
	lost := func(to string) *shared.RecallResult {
		return &shared.RecallResult{Status: shared.StatusAlreadyRecalled, RecallID: to}
	}
	denied := &shared.RecallResult{Status: shared.StatusDenied, Code: shared.CodeForbidden}
	for name, test := range map[string]struct {
		results []*shared.RecallResult
		winner  string
		want    error
	}{
		"one wins":                  {[]*shared.RecallResult{lost("b"), won("b"), lost("b")}, "b", nil},
		"whose answer is missing":   {[]*shared.RecallResult{lost("b"), nil, lost("b")}, "b", nil},
		"no answers":                {[]*shared.RecallResult{nil, nil, nil}, "", nil},
		"two win":                   {[]*shared.RecallResult{won("a"), won("b"), nil}, "a", errWinners},
		"the losers name others":    {[]*shared.RecallResult{lost("a"), lost("b"), nil}, "a", errWinners},
		"it is not found somewhere": {[]*shared.RecallResult{won("a"), {Status: shared.StatusNotFound}}, "a", errNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			var m sentMessage
			if err := m.judge(test.results); !errors.Is(err, test.want) || m.winner != test.winner {
				t.Errorf("%v, won by %q; want %v, %q", err, m.winner, test.want, test.winner)
			}
		})
	}
	if err := new(sentMessage).judge([]*shared.RecallResult{denied}); err == nil {
		t.Error("a recall may be denied")
	}
}

// testCluster has nodes with these notes, which are not started, and one message that was raced after a second.
func testCluster(t *testing.T, notes map[string][]note) *cluster {
	t.Helper()
	c := &cluster{dir: t.TempDir()}
	c.load = &clusterLoad{c: c, messages: []*sentMessage{{
		Message: shared.Message{ID: "m"}, raced: time.Second, winner: "r",
	}}}
	for _, name := range []string{"n0", "n1"} {
		n := newClusterNode(filepath.Join(c.dir, name), name)
		if err := os.Mkdir(n.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		var text []byte
		for _, one := range notes[name] {
			if one.What != noteGone && one.What != noteJoins {
				one.Sequence, one.RecallID, one.MessageID = 1, cmp.Or(one.RecallID, "r"), "m"
			}
			line, err := json.Marshal(one)
			if err != nil {
				t.Fatal(err)
			}
			text = append(append(text, line...), '\n')
		}
		if err := os.WriteFile(n.path(notesFile), text, 0o600); err != nil {
			t.Fatal(err)
		}
		c.nodes = append(c.nodes, n)
	}
	return c
}

func TestCheckRuns(t *testing.T) {
	const notify, history = shared.StepNotify, shared.StepHistory
	at := func(seconds float64, what string) note {
		return note{At: time.Duration(seconds * float64(time.Second)), What: what}
	}
	gone := func(seconds float64, node string) note {
		one := at(seconds, noteGone)
		one.Node = node
		return one
	}
	other := at(2, notify)
	other.RecallID = "other"
	for name, test := range map[string]struct {
		n0, n1  []note
		trouble *trouble // of n0
		want    clusterReport
	}{
		"everything in order": {n0: []note{at(2, notify), at(4, history)}, n1: []note{at(3, notify)}},
		"no notify":           {n0: []note{at(2, notify), at(4, history)}, want: clusterReport{NotifyMissing: 1}},
		"notify that is late": {n0: []note{at(2, notify), at(4, history)}, n1: []note{at(5, notify)},
			want: clusterReport{NotifyLate: 1}},
		"late, of a node that was gone": {n0: []note{at(2, notify), gone(3, "n1"), at(4, history)},
			n1: []note{at(5, noteJoins), at(6, notify)}},
		"late, of a node that was gone after that": {n0: []note{at(2, notify), at(4, history), gone(5, "n1")},
			n1: []note{at(6, notify)}, want: clusterReport{NotifyLate: 1}},
		"late, after 30 s": {n0: []note{at(2, notify), at(32, history)}, n1: []note{at(33, notify)},
			want: clusterReport{HeldBack: 1}},
		"no history": {n0: []note{at(2, notify)}, n1: []note{at(3, notify)}, want: clusterReport{EventsLost: 1}},
		"history twice": {n0: []note{at(2, notify), at(4, history)}, n1: []note{at(3, notify), at(5, history)},
			want: clusterReport{Duplicates: 1}},
		"twice, and the first node was killed between": {
			n0: []note{at(2, notify), at(4, history)}, n1: []note{at(3, notify), at(6, history)},
			trouble: &trouble{5 * time.Second, 7 * time.Second}, want: clusterReport{Repeated: 1},
		},
		"twice, and the first node was killed before": {
			n0: []note{at(2, notify), at(4, history)}, n1: []note{at(3, notify), at(6, history)},
			trouble: &trouble{time.Second, 3 * time.Second}, want: clusterReport{Duplicates: 1},
		},
		"two recalls of one sequence": {n0: []note{at(2, notify), at(4, history)}, n1: []note{at(3, notify), other},
			want: clusterReport{OrderDiffers: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			c := testCluster(t, map[string][]note{"n0": test.n0, "n1": test.n1})
			if test.trouble != nil {
				c.nodes[0].troubles = []trouble{*test.trouble}
			}
			var r clusterReport
			event := shared.Event{Sequence: 1, RecallID: "r", Message: shared.Message{ID: "m"}}
			if err := c.checkRuns(&r, []shared.Event{event}); err != nil {
				t.Fatal(err)
			}
			r.Failed, r.failures = nil, 0
			if !slices.Equal(counts(&r), counts(&test.want)) {
				t.Errorf("%+v, want %+v", r, test.want)
			}
		})
	}
}

// counts are those of a report.
func counts(r *clusterReport) []int {
	return []int{
		r.Lost, r.WinnersDiffer, r.EventsLost, r.OrderDiffers, r.NotifyMissing, r.NotifyLate, r.Duplicates,
		r.AttachmentsWrong, r.Repeated, r.HeldBack,
	}
}

func TestCheckAttachments(t *testing.T) {
	file := []shared.Attachment{{Key: "f"}}
	message := func(id, winner string) *sentMessage {
		return &sentMessage{Message: shared.Message{ID: id, Attachments: file}, node: &clusterNode{}, winner: winner}
	}
	event := func(released []shared.Attachment) shared.Event { return shared.Event{Attachments: released} }
	for name, test := range map[string]struct {
		messages []*sentMessage
		events   []shared.Event
		wrong    int
	}{
		"released with the last": {
			[]*sentMessage{message("a", "r"), message("b", "s")}, []shared.Event{event(nil), event(file)}, 0,
		},
		"never": {[]*sentMessage{message("a", "r")}, []shared.Event{event(nil)}, 1},
		"twice": {
			[]*sentMessage{message("a", "r"), message("b", "s")}, []shared.Event{event(file), event(file)}, 1,
		},
		"while a message is there":   {[]*sentMessage{message("a", "r"), message("b", "")}, []shared.Event{event(file)}, 1},
		"kept for one that is there": {[]*sentMessage{message("a", "r"), message("b", "")}, []shared.Event{event(nil)}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var r clusterReport
			c := &cluster{load: &clusterLoad{messages: test.messages}}
			if c.checkAttachments(&r, test.events); r.AttachmentsWrong != test.wrong {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestCheckIndexes(t *testing.T) {
	c := testCluster(t, nil)
	write := func(n *clusterNode, ids ...string) {
		x, err := index.Open(t.Context(), index.Options{Path: n.path(indexDir)})
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		for _, id := range ids {
			m := speedMessage(1)
			m.ID = id
			if _, err := x.Apply([][]index.Op{{{Put: &m}}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, n := range c.nodes {
		write(n, "a", "b")
	}
	var r clusterReport
	if err := c.checkIndexes(t.Context(), &r); err != nil || !r.IndexesEqual || r.failures > 0 {
		t.Errorf("equal: %+v %v", r, err)
	}
	write(c.nodes[1], "c")
	r = clusterReport{}
	if err := c.checkIndexes(t.Context(), &r); err != nil || r.IndexesEqual || r.failures == 0 {
		t.Errorf("one has a message more: %+v %v", r, err)
	}
}
