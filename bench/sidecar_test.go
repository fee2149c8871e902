package main

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/shared"
)

// TestSidecar measures every row with real processes.
func TestSidecar(t *testing.T) {
	s := &sidecarSpeed{base: 1000, rounds: 2, run: 20 * time.Millisecond}
	result, err := s.measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, r := range result.Rows {
		if r.Ratio <= 0 || r.Value <= 0 || r.Beside <= 0 {
			t.Errorf("%+v", r)
		}
		if r.Target != "" {
			targets = append(targets, r.Name+" "+r.Target)
		}
	}
	want := []string{"index_1_p50 ≤ 1.8", "recall_1_p50 ≤ 1.8", "batch_1x100_cpu ≤ 2.5", "batch_8x100_cpu ≤ 2.5",
		"take_100_cpu ≤ 1"}
	if !slices.Equal(targets, want) {
		t.Errorf("targets %q, want %q", targets, want)
	}
	for _, f := range result.Figures {
		sidecar := f.Side != recallSide
		if f.Rate <= 0 || f.P99 < f.P50 || f.Callers <= 0 || f.Sidecar > 0 != sidecar || f.CPU <= f.Callers+f.Sidecar {
			t.Errorf("%+v", f)
		}
	}
	text := result.text()
	for _, r := range result.Rows {
		met := " | yes | "
		if !r.OK {
			met = " | **no** | "
		}
		if line := "| " + r.Name + " | "; !strings.Contains(text, line) ||
			r.Target != "" && !strings.Contains(text, met+r.What) {
			t.Errorf("the text has no line for %+v:\n%s", r, text)
		}
	}
	readme := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(readme, []byte("before\n"+sidecarTableStart+"old\n"+tableEnd+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeTable(readme, sidecarTableStart, text); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(readme); string(got) != "before\n"+sidecarTableStart+text+tableEnd+"after\n" {
		t.Errorf("README.md:\n%s", got)
	}
}

// TestSidecar_Soak kills a real sidecar.
func TestSidecar_Soak(t *testing.T) {
	dir, _, remove, err := workplace()
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	binary, err := buildSidecar(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := &soak{recalls: 150, rate: 100, between: 300 * time.Millisecond}
	figures, bad, err := s.measure(t.Context(), dir, binary)
	if err != nil || bad != nil {
		t.Fatalf("%v, %v: %v", bad, err, figures)
	}
	got := map[string]any{}
	for _, f := range figures {
		got[f.name] = f.value
	}
	if got["recalls"] != 150 || got["steps"] != 450 || s.kills == 0 {
		t.Errorf("%v", figures)
	}
}

// ledgerOf has one ledger; no other call is made.
type ledgerOf struct {
	*jsonClient
	entries []shared.LedgerEntry
}

func (l ledgerOf) Ledger(context.Context, shared.LedgerRequest) (shared.LedgerPage, error) {
	return shared.LedgerPage{Entries: l.entries}, nil
}

func TestSoakWorkers_Verify(t *testing.T) {
	event := shared.Event{Tenant: tenant, RecallID: "r", Message: shared.Message{ID: "m"}}
	steps := []string{shared.StepNotify, shared.StepHistory, searchStep}
	for _, c := range []struct {
		name string
		do   func(w *soakWorkers, e *shared.LedgerEntry)
		want int // faults
	}{
		{"everything agrees", func(*soakWorkers, *shared.LedgerEntry) {}, 0},
		{"a step that is acknowledged and not recorded", func(_ *soakWorkers, e *shared.LedgerEntry) {
			e.Steps[1].Outcome = shared.OutcomeFailed
		}, 1},
		{"a step that is missing", func(_ *soakWorkers, e *shared.LedgerEntry) { e.Steps = e.Steps[:2] }, 1},
		{"a step that is given up", func(_ *soakWorkers, e *shared.LedgerEntry) {
			e.Steps[0].Outcome = shared.OutcomeUnsupported
		}, 1},
		{"a step that nobody did", func(w *soakWorkers, _ *shared.LedgerEntry) {
			delete(w.ran, workKey{event.Key(), searchStep})
		}, 1},
		{"a step of no recall", func(w *soakWorkers, _ *shared.LedgerEntry) { w.ran[workKey{"other", searchStep}]++ }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, j := newSoakWorkers(), newJournal()
			j.recalled("m", "r")
			e := shared.LedgerEntry{Event: event}
			for _, step := range steps {
				w.ran[workKey{event.Key(), step}]++
				w.acked[workKey{event.Key(), step}] = true
				e.Steps = append(e.Steps, shared.StepRecord{Step: step, Outcome: shared.OutcomeDone})
			}
			c.do(w, &e)
			if err := w.verify(t.Context(), ledgerOf{entries: []shared.LedgerEntry{e}}, j); err != nil {
				t.Fatal(err)
			}
			if w.faults != c.want {
				t.Errorf("%d faults, want %d", w.faults, c.want)
			}
		})
	}
	t.Run("a recall without a ledger", func(t *testing.T) {
		w, j := newSoakWorkers(), newJournal()
		j.recalled("m", "r")
		if err := w.verify(t.Context(), ledgerOf{}, j); err != nil || w.faults != 1 {
			t.Errorf("%d faults, %v", w.faults, err)
		}
	})
	t.Run("history before notify", func(t *testing.T) {
		w := newSoakWorkers()
		k := workKey{event.Key(), shared.StepHistory}
		w.failed[k] = true // not on purpose
		if !w.run(k) || w.faults != 1 {
			t.Errorf("%d faults", w.faults)
		}
	})
	t.Run("an outcome that is late", func(t *testing.T) {
		w := newSoakWorkers()
		w.acknowledged([]verdict{{ID: "a", Outcome: shared.OutcomeDone}, {ID: "b", Outcome: shared.OutcomeFailed}},
			[]string{"a", "b"})
		if w.faults != 1 || len(slices.Collect(maps.Keys(w.acked))) != 0 {
			t.Errorf("%d faults", w.faults)
		}
	})
}

func TestSidecar_WrongUsage(t *testing.T) {
	for _, args := range [][]string{
		{"--seconds", "0"}, {"--soak", "--recalls", "0"}, {"--soak", "--readme", "README.md"},
	} {
		if err := sidecarBench(t.Context(), args); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v", args, err)
		}
	}
}
