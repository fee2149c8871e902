package main

import (
	"context"
	"slices"
)

// A side is who does the work of a contest.
type side string

const (
	ours     side = "recall"
	large    side = "recall_large" // the same with the large index
	peerSide side = "postgres"
	limit    side = "limit"
)

// A contest is work that several sides do, one right after the other, so that they meet the same machine.
type contest struct {
	name   string // of its rows, without what they compare
	what   string // for a person
	unit   string // of the rate
	sides  []contestant
	rows   []rowSpec
	rounds []round
}

type contestant struct {
	side  side
	label string // for a person
	load  *load
	rig   rig
}

// A rig is what a load runs against. It is started once, before the first load that needs it. A rig that did not start
// has nothing to close.
type rig interface {
	start(ctx context.Context) error
	close() error

	// renew begins anew if the runs before have made it much larger than it was.
	renew(ctx context.Context) error
}

// mostGrowth is how many times as large as it was at its start a rig may get.
const mostGrowth = 3

// A round has one sample of each side.
type round map[side]sample

func newContest(name, what, unit string) *contest {
	return &contest{name: name, what: what, unit: unit}
}

// add has another side do the work.
func (c *contest) add(s side, label string, r rig, l *load) *contest {
	c.sides = append(c.sides, contestant{s, label, l, r})
	return c
}

func (c *contest) has(s side) bool {
	return slices.ContainsFunc(c.sides, func(x contestant) bool { return x.side == s })
}

// A runner takes one sample.
type runner func(ctx context.Context, c *contest, x contestant) (sample, error)

// measure runs each contest so many rounds, and those with a row that varies too much again, so often at most. Contests
// take turns, and every other round goes backwards, so that none always comes after the same.
func measure(ctx context.Context, contests []*contest, rounds, repeats int, run runner) error {
	for i := range rounds {
		if err := playRound(ctx, contests, i%2 == 1, run); err != nil {
			return err
		}
		progress("round %d of %d", i+1, rounds)
	}
	for i := range repeats {
		again := slices.DeleteFunc(slices.Clone(contests), func(c *contest) bool { return !c.varies() })
		if len(again) == 0 {
			break
		}
		if err := playRound(ctx, again, i%2 == 1, run); err != nil {
			return err
		}
		progress("%d of %d measured again: their rounds differ by more than %.0f %%",
			len(again), len(contests), 100*maxSpread)
	}
	return nil
}

func playRound(ctx context.Context, contests []*contest, backwards bool, run runner) error {
	contests = slices.Clone(contests)
	if backwards {
		slices.Reverse(contests)
	}
	for _, c := range contests {
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

// varies tells whether a row of the contest differs too much between its rounds.
func (c *contest) varies() bool {
	return slices.ContainsFunc(c.rows, func(r rowSpec) bool { return r.row(c.rounds).Varies })
}
