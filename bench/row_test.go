package main

import (
	"math"
	"testing"
)

func TestQuantile(t *testing.T) {
	for _, c := range []struct {
		values []float64
		p      float64
		want   float64
	}{
		{nil, 0.5, 0},
		{[]float64{7}, 0.5, 7},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 3, 2}, 0.5, 2.5},
		{[]float64{10, 20, 30, 40, 50}, 0.25, 20},
		{[]float64{10, 20, 40}, 0.75, 30},
	} {
		if got := quantile(c.values, c.p); got != c.want {
			t.Errorf("quantile(%v, %g) = %g, want %g", c.values, c.p, got, c.want)
		}
	}
	values := []float64{3, 1, 2}
	if median(values); values[0] != 3 {
		t.Errorf("median sorted its argument: %v", values)
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []float64
		want   float64
	}{
		{"equal rounds", []float64{2, 2, 2}, 0},
		{"one round of five that met a busy machine", []float64{1, 1, 1, 1, 9}, 0},
		{"two of five", []float64{1, 1, 1, 3, 3}, 2},
		{"half of the range of three", []float64{1, 2, 3}, 0.5},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := spread(c.values); math.Abs(got-c.want) > 1e-9 {
				t.Errorf("spread(%v) = %g, want %g", c.values, got, c.want)
			}
		})
	}
}

func TestTarget(t *testing.T) {
	for _, c := range []struct {
		target target
		ratio  float64
		met    bool
		text   string
	}{
		{atMost(1.2), 1.2, true, "≤ 1.2"},
		{atMost(1.2), 1.21, false, "≤ 1.2"},
		{atLeast(0.95), 0.95, true, "≥ 0.95"},
		{atLeast(0.95), 0.94, false, "≥ 0.95"},
		{noTarget, 100, true, ""},
	} {
		if c.target.met(c.ratio) != c.met || c.target.String() != c.text {
			t.Errorf("%v: met(%g) = %v, %q", c.target, c.ratio, c.target.met(c.ratio), c.target)
		}
	}
}

func TestRow_RatioIsTheMedianOfTheRounds(t *testing.T) {
	spec := rowSpec{name: "x", target: atLeast(1), value: rate.side(recallSide), beside: rate.side(postgresSide)}
	// The machine is slower in each round, for both sides; the medians of the sides alone would say 20 / 30.
	rounds := []round{
		{recallSide: {Rate: 100}, postgresSide: {Rate: 50}},
		{recallSide: {Rate: 20}, postgresSide: {Rate: 10}},
		{recallSide: {Rate: 15}, postgresSide: {Rate: 30}},
	}
	got := spec.row(rounds)
	if got.Ratio != 2 || got.Value != 20 || got.Beside != 30 || !got.OK || !got.Varies {
		t.Errorf("%+v", got)
	}
}

func TestRounded(t *testing.T) {
	for x, want := range map[float64]float64{0: 0, 123456: 123456, 1.23456: 1.23, 0.012345: 0.0123, math.Inf(1): 0} {
		if got := rounded(x); got != want {
			t.Errorf("rounded(%g) = %g, want %g", x, got, want)
		}
	}
}
