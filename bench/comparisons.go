package main

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// The comparisons of a run and their targets.

var (
	curve        = []int{1, 2, 4, 8, 16, 64, 256} // callers
	batchSizes   = []int{10, 100, batch}
	batchFlights = []int{1, batchesInFlight}
	recallers    = []int{1, 16, 64}
)

// maxRecalls is how many recalls a run of one second has at most, since each needs a message that is indexed before it.
const maxRecalls = 16_000

// A setup has everything that comparisons run on.
type setup struct {
	small        *chat
	large        *largeIndex
	postgres     *postgres // nil: it is not installed
	ping         *pingPong // without a disk
	indexWire    *pingPong // with what a message writes
	recallWire   *pingPong // with what a recall writes
	disk         *disk
	echo         *echo
	recallsOfRun int // at most
}

func newSetup(ctx context.Context, dir, binary string, base, size int64, run time.Duration) (*setup, error) {
	message, recall, err := entryBytes(ctx, dir)
	if err != nil {
		return nil, err
	}
	s := &setup{
		small:        &chat{parent: dir, name: "small", binary: binary, size: base},
		large:        &largeIndex{chat: &chat{parent: dir, name: "large", binary: binary, size: size}, look: run},
		ping:         &pingPong{},
		indexWire:    &pingPong{file: filepath.Join(dir, "index.log"), bytes: message},
		recallWire:   &pingPong{file: filepath.Join(dir, "recall.log"), bytes: recall},
		disk:         &disk{folder: filepath.Join(dir, "disk"), size: base},
		echo:         &echo{dir: dir},
		recallsOfRun: int(maxRecalls * run.Seconds()),
	}
	if _, err := postgresBinaries(); err == nil {
		s.postgres = &postgres{dir: filepath.Join(dir, "postgres"), size: base}
	}
	return s, nil
}

// comparisons are all that can run here.
func (s *setup) comparisons(decide float64) []*comparison {
	return slices.Concat(s.indexing(), s.batches(), s.recalls(), s.reading(), s.events(decide))
}

func (s *setup) indexing() (all []*comparison) {
	for _, n := range curve {
		c := newComparison(fmt.Sprintf("index_%d", n), fmt.Sprintf("index, %s", callersText(n)), "msg/s")
		switch {
		case n == 1:
			c.add(limitSide, "wire + disk", s.indexWire, s.indexWire.load())
		case n >= 4:
			c.add(limitSide, "disk", s.disk, s.disk.index(n, 1))
		}
		s.sides(c, s.small.index(n, 1), s.large.index(n, 1), func(p *postgres) *load { return p.index(n, 1) })
		switch {
		case n == 1:
			c.ratio("_wire", p50, limitSide, atMost(1.7))
			c.bound("_cpu", cpu, 450)
			c.postgres(atLeast(0.95), atMost(1.05))
		case n >= 64:
			c.ratio("_disk", rate, limitSide, atLeast(0.7))
			c.postgres(atLeast(1), atMost(1))
		default:
			if c.has(limitSide) {
				c.ratio("_disk", rate, limitSide, noTarget)
			}
			c.postgres(atLeast(1), atMost(1))
		}
		c.growth(n)
		all = append(all, c)
	}
	return all
}

func (s *setup) batches() (all []*comparison) {
	for _, size := range batchSizes {
		for _, n := range batchFlights {
			c := newComparison(fmt.Sprintf("batch_%dx%d", n, size), fmt.Sprintf("batches of %d, %d in flight", size, n), "msg/s")
			top := size == batch && n == batchesInFlight
			if top {
				c.add(limitSide, "disk", s.disk, s.disk.index(n, size))
			}
			s.sides(c, s.small.index(n, size), s.large.index(n, size), func(p *postgres) *load { return p.index(n, size) })
			if top {
				c.ratio("_disk", rate, limitSide, atLeast(0.8))
				c.bound("_cpu", cpu, 10)
				c.postgres(atLeast(1.4), atMost(1))
			} else {
				c.postgres(atLeast(1), atMost(1))
			}
			c.growth(n)
			all = append(all, c)
		}
	}
	return all
}

func (s *setup) recalls() (all []*comparison) {
	for _, step := range []bool{false, true} {
		name, with := "recall_%d", "without steps"
		if step {
			name, with = "recall_step_%d", "with one step"
		}
		for _, n := range recallers {
			c := newComparison(fmt.Sprintf(name, n), fmt.Sprintf("recall %s, %s", with, callersText(n)), "recalls/s")
			if n == 1 && !step {
				c.add(limitSide, "wire + disk", s.recallWire, s.recallWire.load())
				c.ratio("_wire", p50, limitSide, atMost(2.2))
			}
			s.sides(c, s.small.recall(n, s.recallsOfRun, step), s.large.recall(n, s.recallsOfRun, step),
				func(p *postgres) *load { return p.recall(n, s.recallsOfRun, step) })
			if step && n == 64 {
				c.postgres(atLeast(1.8), atMost(1))
			} else {
				c.postgres(atLeast(1), atMost(1))
			}
			c.growth(n)
			all = append(all, c)
		}
	}
	return all
}

func (s *setup) reading() (all []*comparison) {
	for _, n := range []int{1, 64} {
		check := newComparison(fmt.Sprintf("check_%d", n), "check, "+callersText(n), "calls/s")
		status := newComparison(fmt.Sprintf("status_%d", n), "status, "+callersText(n), "calls/s")
		for _, c := range []*comparison{check, status} {
			if n == 1 {
				c.add(limitSide, "bare socket", s.ping, s.ping.load())
				c.ratio("_socket", p50, limitSide, atMost(5))
			}
		}
		s.sides(check, s.small.check(n), s.large.check(n), func(p *postgres) *load { return p.check(n) })
		s.sides(status, s.small.status(n), s.large.status(n), func(p *postgres) *load { return p.status(n) })
		for _, c := range []*comparison{check, status} {
			c.postgres(noTarget, noTarget)
			c.growth(n)
			all = append(all, c)
		}
	}
	return all
}

// events compares the event of a recall with gRPC, by which it comes, and a decision of the rules alone, which takes so
// many microseconds, with a check.
func (s *setup) events(decide float64) []*comparison {
	e := newComparison("event", "event of a recall", "recalls/s").
		add(limitSide, "gRPC echo", s.echo, s.echo.load()).
		add(recallSide, "Recall", s.small, s.small.event(s.recallsOfRun)).
		add(largeSide, "Recall, large", s.large, s.large.event(s.recallsOfRun))
	since := func(of side) func(round) float64 { // from the commit, half an echo before the answer
		return func(r round) float64 { return r[of].P50 + r[limitSide].P50/2 }
	}
	echo := func(r round) float64 { return r[limitSide].P50 }
	e.rows = append(e.rows,
		rowSpec{"event", "µs", "p50, from the commit of a recall until notify is called / gRPC echo", atMost(1.5),
			[]side{recallSide, limitSide}, since(recallSide), echo},
		rowSpec{"event_large", "µs", "the same, large index / small", atMost(1.25),
			[]side{recallSide, largeSide, limitSide}, since(largeSide), since(recallSide)})

	d := newComparison("decide", "check, 1 caller, for decide", "calls/s").
		add(recallSide, "Recall", s.small, s.small.check(1))
	d.rows = append(d.rows, rowSpec{"decide", "µs", "one decision of the rules alone / p50 of check", atMost(0.1),
		[]side{recallSide}, func(round) float64 { return decide }, func(r round) float64 { return r[recallSide].P50 }})
	return []*comparison{e, d}
}

// sides adds Recall, PostgreSQL next to it, and Recall with the large index.
func (s *setup) sides(c *comparison, small, big *load, sql func(*postgres) *load) {
	c.add(recallSide, "Recall", s.small, small)
	if s.postgres != nil {
		c.add(postgresSide, "PostgreSQL", s.postgres, sql(s.postgres))
	}
	c.add(largeSide, "Recall, large", s.large, big)
}

// A metric is one figure of a sample.
type metric struct {
	name, unit string
	of         func(sample) float64
}

var (
	rate = metric{"rate", "", func(s sample) float64 { return s.Rate }}
	p50  = metric{"p50", "µs", func(s sample) float64 { return s.P50 }}
	p99  = metric{"p99", "µs", func(s sample) float64 { return s.P99 }}
	cpu  = metric{"CPU of host and plugin", "µs", func(s sample) float64 { return s.CPU }}
)

func (m metric) side(s side) func(round) float64 {
	return func(r round) float64 { return m.of(r[s]) }
}

// ratio adds a row that compares Recall with another side.
func (c *comparison) ratio(suffix string, m metric, with side, t target) {
	c.compare(suffix, m, recallSide, with, t)
}

func (c *comparison) compare(suffix string, m metric, a, b side, t target) {
	label := map[side]string{recallSide: "small index"}[b]
	for _, x := range c.sides {
		if x.side == b && b != recallSide {
			label = x.label
		}
	}
	unit := m.unit
	if unit == "" {
		unit = c.unit
	}
	what := fmt.Sprintf("%s, %s / %s", c.what, m.name, label)
	c.rows = append(c.rows, rowSpec{c.name + suffix, unit, what, t, []side{a, b}, m.side(a), m.side(b)})
}

// bound adds a row whose target bounds the figure itself.
func (c *comparison) bound(suffix string, m metric, most float64) {
	what := fmt.Sprintf("%s, %s a message / the most allowed", c.what, m.name)
	c.rows = append(c.rows, rowSpec{c.name + suffix, m.unit, what, atMost(1), []side{recallSide},
		m.side(recallSide), func(round) float64 { return most }})
}

// postgres adds the rows that compare with PostgreSQL, where it is installed.
func (c *comparison) postgres(rateTarget, p50Target target) {
	if !c.has(postgresSide) {
		return
	}
	p99Target := atMost(1.2)
	if p50Target == noTarget {
		p99Target = noTarget
	}
	c.ratio("_rate", rate, postgresSide, rateTarget)
	c.ratio("_p50", p50, postgresSide, p50Target)
	c.ratio("_p99", p99, postgresSide, p99Target)
}

// growth adds the row that compares the large index with the small one: by time for one caller, else by rate.
func (c *comparison) growth(callers int) {
	if callers == 1 {
		c.compare("_large", p50, largeSide, recallSide, atMost(1.25))
		return
	}
	c.compare("_large", rate, largeSide, recallSide, atLeast(0.8))
}

func callersText(n int) string {
	if n == 1 {
		return "1 caller"
	}
	return fmt.Sprintf("%d callers", n)
}

// only keeps the rows whose names match, the comparisons that have some, and the sides that these need.
func only(comparisons []*comparison, match *regexp.Regexp) (kept []*comparison) {
	for _, c := range comparisons {
		c.rows = slices.DeleteFunc(c.rows, func(r rowSpec) bool { return !match.MatchString(r.name) })
		if len(c.rows) == 0 {
			continue
		}
		c.sides = slices.DeleteFunc(c.sides, func(x participant) bool {
			return !slices.ContainsFunc(c.rows, func(r rowSpec) bool { return slices.Contains(r.of, x.side) })
		})
		kept = append(kept, c)
	}
	return kept
}
