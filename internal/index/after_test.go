package index

import (
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/shared"
)

// recallInOrder recalls a message with one attachment; each of the steps comes after all before it.
func recallInOrder(id string, steps ...string) Op {
	op := recall("r-"+id, message(id, "file-"+id), steps...)
	op.Recall.After = map[string][]string{}
	for i, s := range steps {
		op.Recall.After[s] = steps[:i:i]
	}
	delete(op.Recall.After, shared.StepNotify)
	return op
}

// dependents lists the events with steps that wait for others.
func dependents(t *testing.T, x *Index) []uint64 {
	t.Helper()
	list, err := x.numbers(t.Context(), newKey('d'), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func countOpen(t *testing.T, x *Index, except ...string) map[string]int {
	t.Helper()
	open, err := x.CountOpen(t.Context(), except)
	if err != nil {
		t.Fatal(err)
	}
	return open
}

func TestAfter_Chain(t *testing.T) {
	path := t.TempDir()
	x := openAt(t, path)
	apply(t, x, recall("other", message("other"), shared.StepHistory))
	apply(t, x, recallInOrder("m", shared.StepNotify, shared.StepAttachments, shared.StepHistory, "own"))
	steps := []string{shared.StepNotify, shared.StepAttachments, shared.StepHistory, "own"}
	const sequence = 2
	for i, step := range steps {
		if err := x.Close(); err != nil { // nothing of it is in memory only
			t.Fatal(err)
		}
		x = openAt(t, path)
		for j, waiting := range steps[i+1:] {
			_, err := x.Append(t.Context(), []Op{settle(sequence, waiting, shared.OutcomeDone)})
			first := strings.Join(steps[i:i+1+j], ", ")
			if !errors.Is(err, shared.ErrInvalid) || !strings.Contains(err.Error(), "waits for "+first+", not settled yet") {
				t.Errorf("settling %s before %s: %v", waiting, first, err)
			}
			if e, err := x.Entry(sequence, waiting); e != nil || err != nil {
				t.Errorf("%s is delivered before %s: %+v %v", waiting, step, e, err)
			}
		}
		want := map[string]int{shared.StepHistory: 1}
		for _, open := range steps[i:] {
			want[open]++
		}
		if got := countOpen(t, x); !maps.Equal(got, want) {
			t.Errorf("before %s: open %v, want %v", step, got, want)
		}
		delete(want, shared.StepHistory)
		if got := countOpen(t, x, shared.StepHistory); !maps.Equal(got, want) {
			t.Errorf("before %s: open %v, want %v", step, got, want)
		}
		if got := queued(t, x, step); !slices.Contains(got, sequence) {
			t.Fatalf("%s is not queued: %v", step, got)
		}
		if got := opened(t, x, fail(sequence, step, 1, "not now")); len(got) > 0 {
			t.Errorf("%s failed and opened %v", step, got)
		}
		opens := map[string]uint64{}
		if i+1 < len(steps) {
			opens[steps[i+1]] = sequence
		}
		outcome := []shared.Outcome{shared.OutcomeDone, shared.OutcomeNothingToDo, shared.OutcomeUnsupported}[i%3]
		if got := opened(t, x, settle(sequence, step, outcome)); !maps.Equal(got, opens) {
			t.Errorf("%s settled: opened %v, want %v", step, got, opens)
		}
		if got := opened(t, x, settle(sequence, step, outcome)); len(got) > 0 {
			t.Errorf("%s settled again: opened %v", step, got)
		}
	}
	if got := dependents(t, x); len(got) > 0 {
		t.Errorf("events with steps that wait: %v", got)
	}
}

func TestAfter_SeveralSteps(t *testing.T) {
	x := openNew(t)
	op := recall("r", message("m", "f"), shared.StepHistory, shared.StepAttachments, shared.StepSearch, "own")
	first := []string{shared.StepAttachments, shared.StepSearch}
	op.Recall.After = map[string][]string{shared.StepHistory: first, "own": {shared.StepSearch}}
	apply(t, x, op)
	for _, c := range []struct {
		op     Op
		queues string
	}{
		{fail(1, shared.StepSearch, 1, ""), "[attachments search]"},
		{settle(1, shared.StepSearch, shared.OutcomeDone), "[attachments own]"},
		{fail(1, "own", 1, ""), "[attachments own]"},
		{settle(1, shared.StepAttachments, shared.OutcomeDone), "[history own]"},
	} {
		if apply(t, x, c.op); queues(t, x) != c.queues {
			t.Errorf("%+v: queued %s, want %s", c.op.Settle, queues(t, x), c.queues)
		}
	}
	if got := len(queued(t, x, "own")); got != 1 {
		t.Errorf("a step that backs off is queued %d times", got)
	}
	t.Run("settled in one call", func(t *testing.T) {
		x := openNew(t)
		op := recall("r", message("m", "f"), shared.StepHistory, shared.StepAttachments, shared.StepSearch)
		op.Recall.After = map[string][]string{shared.StepHistory: first}
		apply(t, x, op)
		got := opened(t, x, settle(1, shared.StepAttachments, shared.OutcomeDone),
			settle(1, shared.StepSearch, shared.OutcomeDone))
		if !maps.Equal(got, map[string]uint64{shared.StepHistory: 1}) {
			t.Errorf("opened %v", got)
		}
	})
}

func TestAfter_SettledFromTheStart(t *testing.T) {
	for name, change := range map[string]func(*Recall){
		"unsupported":              func(r *Recall) { r.Unsupported = []string{shared.StepAttachments} },
		"nothing to do":            func(r *Recall) { r.Event.Message.Attachments = nil },
		"not a step of the recall": func(r *Recall) { r.Steps = []string{shared.StepHistory} },
	} {
		t.Run(name, func(t *testing.T) {
			x := openNew(t)
			op := recallInOrder("m", shared.StepAttachments, shared.StepHistory)
			change(op.Recall)
			if got := opened(t, x, op); !maps.Equal(got, map[string]uint64{shared.StepHistory: 1}) {
				t.Errorf("opened %v", got)
			}
			if got := dependents(t, x); len(got) > 0 {
				t.Errorf("events with steps that wait: %v", got)
			}
		})
	}
}

func TestAfter_Ungate(t *testing.T) {
	ungate := Op{Ungate: &Ungate{Sequence: 1}}
	t.Run("opens only what waits for nothing else", func(t *testing.T) {
		x := openNew(t)
		op := recall("r", message("m", "f"), shared.StepNotify, shared.StepAttachments, shared.StepHistory)
		op.Recall.After = map[string][]string{shared.StepHistory: {shared.StepAttachments}}
		apply(t, x, op)
		if got := opened(t, x, ungate); !maps.Equal(got, map[string]uint64{shared.StepAttachments: 1}) {
			t.Errorf("opened %v", got)
		}
		got := opened(t, x, settle(1, shared.StepNotify, shared.OutcomeDone),
			settle(1, shared.StepAttachments, shared.OutcomeDone), ungate)
		if !maps.Equal(got, map[string]uint64{shared.StepHistory: 1}) {
			t.Errorf("opened %v", got)
		}
	})
	t.Run("does not open a step that names notify", func(t *testing.T) {
		x := openNew(t)
		apply(t, x, recallInOrder("m", shared.StepNotify, shared.StepHistory))
		for range 2 {
			if got := opened(t, x, ungate); len(got) > 0 {
				t.Errorf("opened %v", got)
			}
		}
		if got := countOpen(t, x, shared.StepNotify); !maps.Equal(got, map[string]int{shared.StepHistory: 1}) {
			t.Errorf("open %v", got)
		}
		got := opened(t, x, settle(1, shared.StepNotify, shared.OutcomeDone))
		if !maps.Equal(got, map[string]uint64{shared.StepHistory: 1}) || len(dependents(t, x)) > 0 {
			t.Errorf("opened %v, waiting in %v", got, dependents(t, x))
		}
	})
}

func TestCheckOps_After(t *testing.T) {
	for name, c := range map[string]struct {
		after map[string][]string
		field string
	}{
		"itself":         {map[string][]string{"own": {"own"}}, "recall.after.own"},
		"notify":         {map[string][]string{shared.StepNotify: {"own"}}, "recall.after.notify"},
		"a circle":       {map[string][]string{"own": {"push"}, "push": {"own"}}, "recall.after.push"},
		"not transitive": {map[string][]string{"own": {"push"}, "push": {"search"}}, "recall.after.own"},
		"transitive":     {map[string][]string{"own": {"push", "search"}, "push": {"search"}}, ""},
	} {
		op := recall("r", message("m"), shared.StepNotify, shared.StepSearch, shared.StepPush, "own")
		op.Recall.After = c.after
		err := CheckOps([]Op{op})
		var wrong *shared.FieldError
		if errors.As(err, &wrong); c.field == "" && err != nil || c.field != "" && (wrong == nil || wrong.Field != c.field) {
			t.Errorf("%s: %v, want %q", name, err, c.field)
		}
	}
}

func TestSalvage_StepsThatWait(t *testing.T) {
	steps := []string{shared.StepNotify, shared.StepAttachments, shared.StepHistory, "own"}
	for name, lost := range map[string]string{
		"nothing is lost": "", "their events": "d", "the queues": "edw", "the queues and the outcomes": "edws",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "index")
			x := openAt(t, path)
			for i := range steps { // event i+1 has its first i steps settled, and the next one failed in half of them
				sequence := uint64(i + 1)
				apply(t, x, recallInOrder("m"+steps[i], steps...))
				for _, step := range steps[:i] {
					apply(t, x, settle(sequence, step, shared.OutcomeDone))
				}
				if i%2 == 0 {
					apply(t, x, fail(sequence, steps[i], 1, "not now"))
				}
			}
			if lost != "" {
				removeKeys(t, x, lost)
			}
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
			_, y := salvage(t, path)
			for i := range steps {
				first := i
				if strings.Contains(lost, "s") {
					first = 0
				}
				for n, step := range steps[first:] {
					for _, waiting := range steps[first+n+1:] {
						if slices.Contains(queued(t, y, waiting), uint64(i+1)) {
							t.Errorf("event %d: %s is queued before %s is settled", i+1, waiting, step)
						}
					}
					if !slices.Contains(queued(t, y, step), uint64(i+1)) {
						t.Errorf("event %d: %s is not queued", i+1, step)
					}
					apply(t, y, settle(uint64(i+1), step, shared.OutcomeDone))
				}
			}
			if open := countOpen(t, y); len(open) > 0 || len(dependents(t, y)) > 0 {
				t.Errorf("in the end %v are open, and steps wait in %v", open, dependents(t, y))
			}
		})
	}
}

// What came of notify is lost, and the queues. A step that was settled behind the gate shows that it was open.
func TestSalvage_SettledBehindTheGate(t *testing.T) {
	for name, openGate := range map[string]Op{
		"notify was settled":        settle(1, shared.StepNotify, shared.OutcomeDone),
		"notify was not waited for": {Ungate: &Ungate{Sequence: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "index")
			x := openAt(t, path)
			op := recall("r", message("m"), shared.StepNotify, shared.StepHistory, shared.StepSearch, shared.StepPush, "own")
			op.Recall.After = map[string][]string{"own": {shared.StepPush}}
			for _, op := range []Op{op, openGate, settle(1, shared.StepHistory, shared.OutcomeDone)} {
				apply(t, x, op)
			}
			removeKeysUnder(t, x, attemptsKey(1, shared.StepNotify), newKey('e'))
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
			_, y := salvage(t, path)
			for _, c := range []struct{ settle, queues string }{
				{"", "[notify push search]"}, {shared.StepNotify, "[push search]"}, {shared.StepPush, "[own search]"},
				{shared.StepSearch, "[own]"}, {"own", "[]"},
			} {
				if c.settle != "" {
					apply(t, y, settle(1, c.settle, shared.OutcomeDone))
				}
				if got := queues(t, y); got != c.queues {
					t.Errorf("once %q is settled %s are queued, want %s", c.settle, got, c.queues)
				}
			}
			if open := countOpen(t, y); len(open) > 0 {
				t.Errorf("in the end %v are open", open)
			}
		})
	}
}

// removeKeys removes all keys of some kinds, as a damaged block does.
func removeKeys(t *testing.T, x *Index, kinds string) {
	t.Helper()
	var prefixes []key
	for _, kind := range []byte(kinds) {
		prefixes = append(prefixes, newKey(kind))
	}
	removeKeysUnder(t, x, prefixes...)
}

// removeKeysUnder removes all keys that begin with one of some prefixes.
func removeKeysUnder(t *testing.T, x *Index, prefixes ...key) {
	t.Helper()
	txn := x.dir.NewTransaction(true)
	defer txn.Discard()
	for _, prefix := range prefixes {
		var keys [][]byte
		err := each(t.Context(), txn, prefix, nil, func(item *badger.Item) (bool, error) {
			keys = append(keys, item.KeyCopy(nil))
			return true, nil
		})
		for _, k := range keys {
			err = errors.Join(err, txn.Delete(k))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := x.commitTxn(txn); err != nil {
		t.Fatal(err)
	}
}
