package main

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
)

// A row is one line of the table: what was measured beside its limit.
type row struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Limit  float64 `json:"limit"`
	Ratio  float64 `json:"ratio"` // the median of the rounds' own ratios
	Spread float64 `json:"spread"`
	Target string  `json:"target"`
	OK     bool    `json:"ok"`
	Unit   string  `json:"unit"`
	Of     string  `json:"of"` // what value and limit are
}

// A target bounds a ratio, or where there is no limit the value.
type target struct {
	most  bool // bound is the most, and else the least
	bound float64
}

func atMost(x float64) target  { return target{true, x} }
func atLeast(x float64) target { return target{false, x} }

func (t target) met(x float64) bool {
	if t.most {
		return x <= t.bound
	}
	return x >= t.bound
}

func (t target) String() string {
	if t.most {
		return fmt.Sprintf("≤ %g", t.bound)
	}
	return fmt.Sprintf("≥ %g", t.bound)
}

// compare makes a row of what every round says of a value and its limit.
func compare(name, unit, of string, t target, all []round, value, limit func(round) float64) row {
	var values, limits, ratios []float64
	for _, r := range all {
		v, l := value(r), limit(r)
		values, limits, ratios = append(values, v), append(limits, l), append(ratios, v/l)
	}
	low, high := math.Inf(1), 0.0
	for _, x := range ratios {
		low, high = min(low, x), max(high, x)
	}
	ratio := median(ratios)
	return row{
		Name: name, Value: rounded(median(values)), Limit: rounded(median(limits)), Ratio: rounded(ratio),
		Spread: rounded((high - low) / 2), Target: t.String(), OK: t.met(ratio), Unit: unit, Of: of,
	}
}

// single is a row whose target bounds the value itself.
func single(name, unit, of string, value, most float64) row {
	return row{
		Name: name, Value: rounded(value), Limit: most, Ratio: rounded(value / most), Target: "≤ 1", OK: value <= most,
		Unit: unit, Of: of,
	}
}

// rounded keeps three digits, and all of a large number.
func rounded(x float64) float64 {
	if x == 0 || math.IsInf(x, 0) || math.IsNaN(x) {
		return 0
	}
	scale := math.Pow(10, max(0, 2-math.Floor(math.Log10(math.Abs(x)))))
	return math.Round(x*scale) / scale
}

// printTable is what a person reads, in Markdown.
func printTable(rows []row) string {
	var b strings.Builder
	b.WriteString("| row | value | limit | unit | ratio | spread | target | met | value / limit |\n")
	b.WriteString("| --- | ---: | ---: | --- | ---: | ---: | --- | --- | --- |\n")
	for _, r := range rows {
		met := "yes"
		if !r.OK {
			met = "**no**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %.2f | ±%.2f | %s | %s | %s |\n",
			r.Name, number(r.Value), number(r.Limit), r.Unit, r.Ratio, r.Spread, r.Target, met, r.Of)
	}
	return b.String()
}

// number writes thousands apart.
func number(x float64) string {
	if math.Abs(x) < 1000 {
		return fmt.Sprintf("%.4g", x)
	}
	digits := fmt.Sprintf("%.0f", x)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// speedResult is what --json prints.
type speedResult struct {
	Messages int64   `json:"messages"`
	Rounds   int     `json:"rounds"`
	Seconds  float64 `json:"seconds"`
	Postgres string  `json:"postgres"`
	Machine  string  `json:"machine"`
	Restarts int     `json:"restarts"` // of the plugin while the large index grew
	Rows     []row   `json:"rows"`
}

func (r *speedResult) json() (string, error) {
	out, err := json.Marshal(r)
	return string(out), err
}
