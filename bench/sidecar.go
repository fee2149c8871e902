package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

const (
	sidecarSide side = "sidecar"         // plain JSON
	connectSide side = "sidecar_connect" // Connect with protobuf
	grpcSide    side = "sidecar_grpc"
)

// sidecarSpeed is one run of the command without --soak.
type sidecarSpeed struct {
	base   int64 // messages in each index
	rounds int
	run    time.Duration // of one load
}

// sidecarRounds is over how many rounds the time of a load is spread.
const sidecarRounds = 5

// sidecarBench compares the sidecar with the SDK, or kills it under load.
func sidecarBench(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("sidecar", flag.ContinueOnError)
	seconds := whole(set, "seconds", sidecarRounds, 1, "time of each load in all rounds together")
	soaking := set.Bool("soak", false, "kill the sidecar again and again under callers and workers instead")
	recalls := whole(set, "recalls", 10_000, 1, "with --soak: messages that are recalled")
	asJSON := set.Bool("json", false, "print one JSON object")
	readme := set.String("readme", "", "a README.md to put the tables into")
	if err := parse(set, args); err != nil {
		return err
	}
	if *soaking {
		if *readme != "" {
			fmt.Fprintln(os.Stderr, "bench sidecar: --soak has no tables; leave out --readme")
			return errUsage
		}
		return (&soak{recalls: *recalls, rate: soakRate, between: soakKills}).bench(ctx, *asJSON)
	}
	s := &sidecarSpeed{base: 100_000, rounds: sidecarRounds,
		run: time.Duration(*seconds) * time.Second / sidecarRounds}
	result, err := s.measure(ctx)
	if err != nil {
		return err
	}
	out := result.text()
	if *asJSON {
		text, err := json.Marshal(result)
		if err != nil {
			return err
		}
		out = string(text)
	}
	if *readme != "" {
		if err := writeTable(*readme, sidecarTableStart, result.text()); err != nil {
			return err
		}
	}
	fmt.Println(out)
	return nil
}

// sidecarResult is what --json prints.
type sidecarResult struct {
	Machine string        `json:"machine"`
	Load    machineLoad   `json:"load"`
	Rounds  int           `json:"rounds"`
	Seconds float64       `json:"seconds"`
	Rows    []row         `json:"rows"`
	Figures []sideFigures `json:"figures"`
}

func (s *sidecarSpeed) measure(ctx context.Context) (*sidecarResult, error) {
	result := &sidecarResult{Load: lookAround(lookTime), Rounds: s.rounds}
	progress("%s", result.Load)
	start, during := time.Now(), watch()
	dir, _, remove, err := workplace()
	if err != nil {
		return nil, err
	}
	defer remove()
	result.Machine = machine(dir)
	binary, err := buildSidecar(dir)
	if err != nil {
		return nil, err
	}
	plugin := filepath.Join(dir, "recall-plugin")
	sdk := &chat{parent: dir, name: "sdk", binary: plugin, size: s.base}
	sidecar := &sidecarChat{files: &chat{parent: dir, name: "sidecar", binary: plugin, size: s.base}, binary: binary}
	comparisons := sidecarComparisons(sdk, sidecar, int(maxRecalls*s.run.Seconds()))
	runs := &speed{rounds: s.rounds, repeats: 1, run: s.run, match: regexp.MustCompile("")}
	if err := errors.Join(runs.compare(ctx, comparisons), runs.end()); err != nil {
		return nil, err
	}
	result.Seconds, result.Load.During = rounded(time.Since(start).Seconds()), rounded(during())
	for _, c := range comparisons {
		for i := range c.rows {
			result.Rows = append(result.Rows, c.rows[i].row(c.rounds))
		}
		result.Figures = append(result.Figures, c.figures()...)
	}
	return result, nil
}

// sidecarComparisons are all of the command. A run has so many recalls at most.
func sidecarComparisons(sdk *chat, sidecar *sidecarChat, recalls int) (all []*comparison) {
	type of func(c *calls) *load
	add := func(name, what, unit string, load of, protocols bool) *comparison {
		c := newComparison(name, what, unit).add(recallSide, "SDK", sdk, load(&sdk.calls)).
			add(sidecarSide, "sidecar, /v1 JSON", sidecar, load(&sidecar.json))
		if protocols {
			c.add(connectSide, "sidecar, Connect", sidecar, load(&sidecar.connect)).
				add(grpcSide, "sidecar, gRPC", sidecar, load(&sidecar.grpc))
		}
		all = append(all, c)
		return c
	}
	for _, n := range []int{1, 16} {
		durable := noTarget
		if n == 1 {
			durable = atMost(1.8)
		}
		text := callersText(n)
		add(fmt.Sprintf("index_%d", n), "index, "+text, "msg/s",
			func(c *calls) *load { return c.index(n, 1) }, true).sidecarRows(durable, noTarget)
		add(fmt.Sprintf("recall_%d", n), "recall, "+text, "recalls/s",
			func(c *calls) *load { return c.recall(n, recalls) }, false).sidecarRows(durable, noTarget)
		add(fmt.Sprintf("check_%d", n), "check, "+text, "calls/s",
			func(c *calls) *load { return c.check(n) }, false).sidecarRows(noTarget, noTarget)
		add(fmt.Sprintf("status_%d", n), "status, "+text, "calls/s",
			func(c *calls) *load { return c.status(n) }, n == 1).sidecarRows(noTarget, noTarget)
	}
	for _, n := range batchFlights {
		add(fmt.Sprintf("batch_%dx100", n), fmt.Sprintf("batches of 100, %d in flight", n), "msg/s",
			func(c *calls) *load { return c.index(n, 100) }, n == 1).sidecarRows(noTarget, atMost(2.5))
	}
	for _, s := range []struct {
		name, what string
		load       *stepLoad
		target     target
	}{
		{"take_1", "steps, take of 1", sidecar.taking(1), noTarget},
		{"take_100", "steps, take of 100", sidecar.taking(maxTake), atMost(1)},
		{"webhook", "steps, webhook", sidecar.hooking(), noTarget},
	} {
		c := newComparison(s.name, s.what, "steps/s").add(sidecarSide, "sidecar", sidecar, s.load)
		c.rows = append(c.rows, rowSpec{s.name + "_cpu", "µs",
			s.what + ", CPU of the sidecar a step / the most allowed", s.target,
			[]side{sidecarSide}, func(r round) float64 { return r[sidecarSide].Sidecar },
			func(round) float64 { return 200 }})
		all = append(all, c)
	}
	return all
}

// sidecarRows adds the rows that compare the sidecar with the SDK.
func (c *comparison) sidecarRows(p50Target, cpuTarget target) {
	for _, x := range []struct {
		suffix string
		metric metric
		target target
	}{{"_p50", p50, p50Target}, {"_p99", p99, noTarget}, {"_cpu", metric{"CPU", "µs", cpu.of}, cpuTarget}} {
		c.rows = append(c.rows, rowSpec{c.name + x.suffix, x.metric.unit, fmt.Sprintf("%s, %s / SDK", c.what, x.metric.name),
			x.target, []side{sidecarSide, recallSide}, x.metric.side(sidecarSide), x.metric.side(recallSide)})
	}
}

const sidecarTableStart = "<!-- made by: go run ./bench sidecar --readme bench/README.md -->\n"

// text is the result for a person, in Markdown.
func (r *sidecarResult) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n%s; medians of %d rounds, more where a row varied.\n\n", r.Load, r.Machine, r.Rounds)
	b.WriteString(printTargets(r.Rows) + "\n")
	b.WriteString("| work | by | rate | unit | p50 µs | p99 µs | CPU µs | of callers | of the sidecar | of the plugin |\n")
	b.WriteString("| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	some := func(x float64) string {
		if x == 0 {
			return ""
		}
		return number(x)
	}
	for _, f := range r.Figures {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", f.What, f.Label, number(f.Rate), f.Unit,
			some(f.P50), some(f.P99), number(f.CPU), number(f.Callers), some(f.Sidecar), number(f.CPU-f.Callers-f.Sidecar))
	}
	return b.String()
}
