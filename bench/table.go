package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sideFigures are those of one side of a comparison: the medians of its rounds.
type sideFigures struct {
	Name   string `json:"name"`
	What   string `json:"what"`
	Side   side   `json:"side"`
	Label  string `json:"label"`
	Unit   string `json:"unit"` // of the rate; the others are in microseconds
	sample        // medians
	Rounds int    `json:"rounds"`
}

// figures returns those of all sides.
func (c *comparison) figures() (all []sideFigures) {
	for _, x := range c.sides {
		middle := func(m metric) float64 {
			var values []float64
			for _, r := range c.rounds {
				values = append(values, m.of(r[x.side]))
			}
			return rounded(median(values))
		}
		all = append(all, sideFigures{
			Name: c.name, What: c.what, Side: x.side, Label: x.label, Unit: c.unit, Rounds: len(c.rounds),
			sample: sample{Rate: middle(rate), P50: middle(p50), P99: middle(p99), CPU: middle(cpu),
				Callers: middle(metric{of: func(s sample) float64 { return s.Callers }}),
				Sidecar: middle(metric{of: func(s sample) float64 { return s.Sidecar }})},
		})
	}
	return all
}

// speedResult is what --json prints.
type speedResult struct {
	Machine  string        `json:"machine"`
	Load     machineLoad   `json:"load"`
	Messages int64         `json:"messages"` // in the large index
	Rounds   int           `json:"rounds"`
	Seconds  float64       `json:"seconds"`
	Postgres string        `json:"postgres"` // why it is left out; empty: it is not
	Restarts int           `json:"restarts"` // of the plugin while the large index grew
	Rows     []row         `json:"rows"`
	Figures  []sideFigures `json:"figures"`
}

// addAll adds the rows and figures of comparisons.
func (r *speedResult) addAll(comparisons []*comparison) {
	for _, c := range comparisons {
		for i := range c.rows {
			r.Rows = append(r.Rows, c.rows[i].row(c.rounds))
		}
		r.Figures = append(r.Figures, c.figures()...)
	}
}

func (r *speedResult) json() (string, error) {
	out, err := json.Marshal(r)
	return string(out), err
}

// text is the result for a person, in Markdown.
func (r *speedResult) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", r.Load)
	fmt.Fprintf(&b, "%s; %s messages in the large index; medians of %d rounds, more where a row varied.\n",
		r.Machine, number(float64(r.Messages)), r.Rounds)
	if r.Postgres != "" {
		fmt.Fprintf(&b, "\n%s\n", r.Postgres)
	}
	if r.Restarts > 0 {
		fmt.Fprintf(&b, "\nThe plugin was restarted %d times while the large index grew.\n", r.Restarts)
	}
	b.WriteString("\n" + printTargets(r.Rows))
	if len(r.Figures) > 0 {
		b.WriteString("\n" + printFigures(r.Figures))
	}
	return b.String()
}

// printTargets is the table of targets.
func printTargets(rows []row) string {
	var b strings.Builder
	b.WriteString("| row | value | compared with | unit | ratio | spread | target | met | value / compared with |\n")
	b.WriteString("| --- | ---: | ---: | --- | ---: | ---: | --- | --- | --- |\n")
	for _, r := range rows {
		met := "yes"
		switch {
		case r.Target == "":
			met = ""
		case !r.OK:
			met = "**no**"
		}
		varies := ""
		if r.Varies {
			varies = " varies"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %.0f %%%s | %s | %s | %s |\n", r.Name, number(r.Value), number(r.Beside),
			r.Unit, number(r.Ratio), 100*r.Spread, varies, r.Target, met, r.What)
	}
	return b.String()
}

// printFigures is the table of what each side does.
func printFigures(all []sideFigures) string {
	var b strings.Builder
	b.WriteString("| work | by | rate | unit | p50 µs | p99 µs | CPU µs |\n")
	b.WriteString("| --- | --- | ---: | --- | ---: | ---: | ---: |\n")
	for _, f := range all {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n",
			f.What, f.Label, number(f.Rate), f.Unit, number(f.P50), number(f.P99), number(f.CPU))
	}
	return b.String()
}

// number writes thousands apart.
func number(x float64) string {
	if math.Abs(x) < 1000 {
		return fmt.Sprintf("%.3g", x)
	}
	digits := fmt.Sprintf("%.0f", x)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

const (
	tableStart = "<!-- made by: go run ./bench speed --readme bench/README.md -->\n"
	tableEnd   = "<!-- end -->\n"
)

// write puts the tables into a README, between their two marks, and the plots beside it.
func (r *speedResult) write(readme string, plots map[string]*plot) error {
	if err := writeTable(readme, tableStart, r.text()); err != nil {
		return err
	}
	for name, p := range plots {
		if err := os.WriteFile(filepath.Join(filepath.Dir(readme), name), []byte(p.svg()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// writeTable puts tables into a README, between the mark start and the next tableEnd.
func writeTable(readme, start, tables string) error {
	old, err := os.ReadFile(readme)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(old), start)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !found || !ended {
		return fmt.Errorf("%s has no place for the table: the lines %q and %q", readme, start, tableEnd)
	}
	return os.WriteFile(readme, []byte(before+start+tables+tableEnd+after), 0o644)
}

// find returns the figures of a side of a comparison.
func find(all []sideFigures, name string, of side) (sideFigures, bool) {
	i := slices.IndexFunc(all, func(f sideFigures) bool { return f.Name == name && f.Side == of })
	if i < 0 {
		return sideFigures{}, false
	}
	return all[i], true
}
