package main

import (
	"fmt"
	"math"
	"slices"
)

// A row is one line of the table of targets: what was measured, and what it is compared with.
type row struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Beside float64 `json:"beside"`
	Ratio  float64 `json:"ratio"`  // the median of the rounds' own ratios
	Spread float64 `json:"spread"` // of the ratios, see spread
	Varies bool    `json:"varies"` // the spread is above maxSpread
	Target string  `json:"target"` // of the ratio; empty: none
	OK     bool    `json:"ok"`
	Unit   string  `json:"unit"`
	What   string  `json:"what"` // what value and beside are
}

// maxSpread is from where on a row is measured again.
const maxSpread = 0.3

// A target bounds a ratio.
type target struct {
	most, least float64 // 0: no bound
}

func atMost(x float64) target  { return target{most: x} }
func atLeast(x float64) target { return target{least: x} }

// noTarget is that of a row that is for information.
var noTarget target

func (t target) met(x float64) bool { return x >= t.least && (t.most == 0 || x <= t.most) }

func (t target) String() string {
	switch {
	case t.most > 0:
		return fmt.Sprintf("≤ %g", t.most)
	case t.least > 0:
		return fmt.Sprintf("≥ %g", t.least)
	}
	return ""
}

// A rowSpec says how a row is made of the rounds of a comparison.
type rowSpec struct {
	name, unit, what string
	target           target
	of               []side // whose samples it needs
	value, beside    func(round) float64
}

// row makes the row.
func (s *rowSpec) row(rounds []round) row {
	var values, besides, ratios []float64
	for _, r := range rounds {
		v, b := s.value(r), s.beside(r)
		values, besides, ratios = append(values, v), append(besides, b), append(ratios, v/b)
	}
	ratio, varies := median(ratios), spread(ratios)
	return row{
		Name: s.name, Value: rounded(median(values)), Beside: rounded(median(besides)), Ratio: rounded(ratio),
		Spread: rounded(varies), Varies: varies > maxSpread, Target: s.target.String(), OK: s.target.met(ratio),
		Unit: s.unit, What: s.what,
	}
}

// single is a row that is measured once; its target bounds the value itself.
func single(name, unit, what string, value, most float64) row {
	return row{
		Name: name, Value: rounded(value), Beside: most, Ratio: rounded(value / most), Target: "≤ 1", OK: value <= most,
		Unit: unit, What: what,
	}
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// spread is how far the middle half of the values reaches, in parts of their median: one round that met a busy machine
// does not count, two do.
func spread(values []float64) float64 {
	return (quantile(values, 0.75) - quantile(values, 0.25)) / math.Abs(median(values))
}

// quantile is between the two values that are nearest to it. It is 0 of none.
func quantile[T ~float64 | ~int64](values []T, p float64) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	at := p * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + T((at-float64(low))*float64(sorted[high]-sorted[low]))
}

// rounded keeps three digits, and all of a large number.
func rounded(x float64) float64 {
	if x == 0 || math.IsInf(x, 0) || math.IsNaN(x) {
		return 0
	}
	scale := math.Pow(10, max(0, 2-math.Floor(math.Log10(math.Abs(x)))))
	return math.Round(x*scale) / scale
}
