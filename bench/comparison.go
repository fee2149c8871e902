package main

import (
	"context"
	"slices"
	"time"
)

// A side is who does the work of a comparison.
type side string

const (
	recallSide   side = "recall"
	largeSide    side = "recall_large" // the same with the large index
	postgresSide side = "postgres"
	limitSide    side = "limit"
)

// A comparison is work that several sides do, one right after the other, so that they meet the same machine.
type comparison struct {
	name   string // of its rows, without what they compare
	what   string // for a person
	unit   string // of the rate
	sides  []participant
	rows   []rowSpec
	rounds []round
}

type participant struct {
	side    side
	label   string // for a person
	load    work
	backend backend
}

// work is what a side does for a time.
type work interface {
	run(ctx context.Context, d time.Duration) (sample, error)
}

// A backend is what a load runs against. It is started once, before the first load that needs it. One that did not
// start has nothing to close.
type backend interface {
	start(ctx context.Context) error
	close() error

	// renew starts it again, empty but for its dataset, if the runs before made it mostGrowth times as large.
	renew(ctx context.Context) error
}

// mostGrowth is how many times as large as its dataset a backend may get: a call costs more with more messages.
const mostGrowth = 3

// A round has one sample of each side.
type round map[side]sample

func newComparison(name, what, unit string) *comparison {
	return &comparison{name: name, what: what, unit: unit}
}

// add adds a side.
func (c *comparison) add(s side, label string, b backend, l work) *comparison {
	c.sides = append(c.sides, participant{s, label, l, b})
	return c
}

func (c *comparison) has(s side) bool {
	return slices.ContainsFunc(c.sides, func(x participant) bool { return x.side == s })
}

// A runner takes one sample.
type runner func(ctx context.Context, c *comparison, x participant) (sample, error)

// measure runs all comparisons in each round, and then those again of which a row varies, up to repeats times. Every
// other round goes backwards, so that no side always comes after the same one.
func measure(ctx context.Context, comparisons []*comparison, rounds, repeats int, run runner) error {
	for i := range rounds {
		if err := runRound(ctx, comparisons, i%2 == 1, run); err != nil {
			return err
		}
		progress("round %d of %d", i+1, rounds)
	}
	for i := range repeats {
		again := slices.DeleteFunc(slices.Clone(comparisons), func(c *comparison) bool { return !c.varies() })
		if len(again) == 0 {
			break
		}
		if err := runRound(ctx, again, i%2 == 1, run); err != nil {
			return err
		}
		progress("%d of %d measured again: their rounds differ by more than %.0f %%",
			len(again), len(comparisons), 100*maxSpread)
	}
	return nil
}

func runRound(ctx context.Context, comparisons []*comparison, backwards bool, run runner) error {
	comparisons = slices.Clone(comparisons)
	if backwards {
		slices.Reverse(comparisons)
	}
	for _, c := range comparisons {
		sides := slices.Clone(c.sides)
		if backwards {
			slices.Reverse(sides)
		}
		r := round{}
		for _, x := range sides {
			s, err := run(ctx, c, x)
			if err != nil {
				return err
			}
			r[x.side] = s
		}
		c.rounds = append(c.rounds, r)
	}
	return nil
}

// varies tells whether a row of the comparison differs too much between its rounds.
func (c *comparison) varies() bool {
	return slices.ContainsFunc(c.rows, func(r rowSpec) bool { return r.row(c.rounds).Varies })
}
