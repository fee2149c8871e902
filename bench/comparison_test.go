package main

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// fakeComparison compares the rates of two sides.
func fakeComparison(name string) *comparison {
	c := newComparison(name, name, "calls/s").add(recallSide, "Recall", nil, nil).add(postgresSide, "PostgreSQL", nil, nil)
	c.ratio("_rate", rate, postgresSide, atLeast(1))
	return c
}

func TestMeasure_SidesTakeTurnsAndEveryOtherRoundGoesBackwards(t *testing.T) {
	var order []string
	run := func(_ context.Context, c *comparison, x participant) (sample, error) {
		order = append(order, c.name+" "+string(x.side))
		return sample{Rate: 1}, nil
	}
	if err := measure(t.Context(), []*comparison{fakeComparison("a"), fakeComparison("b")}, 2, 3, run); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"a recall", "a postgres", "b recall", "b postgres",
		"b postgres", "b recall", "a postgres", "a recall",
	}
	if !slices.Equal(order, want) {
		t.Errorf("order %q, want %q", order, want)
	}
}

func TestMeasure_RepeatsWhatVaries(t *testing.T) {
	for _, c := range []struct {
		name   string
		rates  []float64 // of our side, round by round; the last one stays
		rounds int
		varies bool
	}{
		{"not at all where rounds agree", []float64{1, 1, 1.1}, 3, false},
		{"until they agree", []float64{1, 2, 1, 1}, 4, false},
		{"three times at most", []float64{1, 2, 4, 8, 16, 32, 64}, 6, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			varying, steady := fakeComparison("varying"), fakeComparison("steady")
			run := func(_ context.Context, of *comparison, x participant) (sample, error) {
				if of == varying && x.side == recallSide {
					return sample{Rate: c.rates[min(len(of.rounds), len(c.rates)-1)]}, nil
				}
				return sample{Rate: 1}, nil
			}
			if err := measure(t.Context(), []*comparison{varying, steady}, 3, 3, run); err != nil {
				t.Fatal(err)
			}
			if n := len(varying.rounds); n != c.rounds || varying.varies() != c.varies {
				t.Errorf("%d rounds, varies %v; want %d, %v", n, varying.varies(), c.rounds, c.varies)
			}
			if len(steady.rounds) != 3 {
				t.Errorf("the steady one has %d rounds", len(steady.rounds))
			}
		})
	}
}

func TestMeasure_EndsWithAnError(t *testing.T) {
	broken := errors.New("broken")
	run := func(context.Context, *comparison, participant) (sample, error) { return sample{}, broken }
	if err := measure(t.Context(), []*comparison{fakeComparison("a")}, 3, 3, run); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// testSetup is a setup of which nothing is started, with PostgreSQL.
func testSetup(t *testing.T) *setup {
	t.Helper()
	s, err := newSetup(t.Context(), t.TempDir(), "recall-plugin", 100_000, 10_000_000, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	s.postgres = &postgres{}
	return s
}

func TestOnly_KeepsWhatTheRowsNeed(t *testing.T) {
	for _, c := range []struct {
		pattern string
		rows    []string
		sides   []string
	}{
		{"^index_1_wire$", []string{"index_1_wire"}, []string{"index_1 limit", "index_1 recall"}},
		{"^index_1_cpu$", []string{"index_1_cpu"}, []string{"index_1 recall"}},
		{"^recall_64_(rate|large)", []string{"recall_64_rate", "recall_64_large"},
			[]string{"recall_64 recall", "recall_64 postgres", "recall_64 recall_large"}},
		{"^event_large", []string{"event_large"}, []string{"event limit", "event recall", "event recall_large"}},
		{"^decide", []string{"decide"}, []string{"decide recall"}},
		{"memory", nil, nil},
	} {
		var rows, sides []string
		for _, k := range only(testSetup(t).comparisons(0.2), regexp.MustCompile(c.pattern)) {
			for _, r := range k.rows {
				rows = append(rows, r.name)
			}
			for _, x := range k.sides {
				sides = append(sides, k.name+" "+string(x.side))
			}
		}
		if !slices.Equal(rows, c.rows) || !slices.Equal(sides, c.sides) {
			t.Errorf("%s: rows %q, sides %q", c.pattern, rows, sides)
		}
	}
}

// TestComparisons_HaveEveryTarget compares the rows with the targets of the project.
func TestComparisons_HaveEveryTarget(t *testing.T) {
	want := map[string]string{
		"index_1_wire": "≤ 1.7", "index_1_cpu": "≤ 1", "index_64_disk": "≥ 0.7", "index_256_disk": "≥ 0.7",
		"batch_8x500_disk": "≥ 0.8", "batch_8x500_rate": "≥ 1.4", "batch_8x500_cpu": "≤ 1",
		"recall_1_wire": "≤ 2.2", "recall_step_1_p50": "≤ 1", "recall_step_64_rate": "≥ 1.8",
		"check_1_socket": "≤ 5", "status_1_socket": "≤ 5", "event": "≤ 1.5", "decide": "≤ 0.1",
		"index_1_rate": "≥ 0.95", "index_1_p50": "≤ 1.05",
	}
	for _, n := range []string{"2", "4", "8", "16", "64", "256"} {
		want["index_"+n+"_rate"], want["index_"+n+"_p50"] = "≥ 1", "≤ 1"
	}
	got := map[string]string{}
	for _, c := range testSetup(t).comparisons(0.2) {
		for _, r := range c.rows {
			if _, twice := got[r.name]; twice {
				t.Errorf("two rows are named %s", r.name)
			}
			got[r.name] = r.target.String()
		}
		if c.name != "decide" && !slices.ContainsFunc(c.rows, func(r rowSpec) bool {
			return strings.HasSuffix(r.name, "_large") && (r.target == atMost(1.25) || r.target == atLeast(0.8))
		}) {
			t.Errorf("%s is not compared with the large index", c.name)
		}
		if c.has(postgresSide) && c.name[0] != 'c' && c.name[0] != 's' {
			want[c.name+"_p99"] = "≤ 1.2"
		}
	}
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%s has the target %q, want %q", name, got[name], text)
		}
	}
}

func TestComparisons_WithoutPostgres(t *testing.T) {
	s := testSetup(t)
	s.postgres = nil
	for _, c := range s.comparisons(0.2) {
		needs := func(r rowSpec) bool { return slices.Contains(r.of, postgresSide) }
		if c.has(postgresSide) || slices.ContainsFunc(c.rows, needs) {
			t.Errorf("%s needs PostgreSQL", c.name)
		}
	}
}
