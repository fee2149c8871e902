package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// rows are the table of a run.
func (s *speed) rows() []row {
	var out []row
	rate := func(name string) func(round) float64 { return func(r round) float64 { return r[name].rate } }
	p50 := func(names ...string) func(round) float64 {
		return func(r round) (sum float64) {
			for _, name := range names {
				sum += r[name].p50
			}
			return sum
		}
	}
	p99 := func(name string) func(round) float64 { return func(r round) float64 { return r[name].p99 } }
	event := func(name string) func(round) float64 { // from the commit, half an echo before the answer
		return func(r round) float64 { return r[name].p50 + r["echo/1"].p50/2 }
	}
	add := func(name, unit, of string, t target, value, limit func(round) float64) {
		out = append(out, compare(name, unit, of, t, s.all, value, limit))
	}
	add("index_1", "µs", "p50, 1 caller / echo + one synced commit", atMost(1.25), p50("index/1"), p50("echo/1", "commit/1"))
	add("index_64", "msg/s", "64 callers / disk with 64", atLeast(0.8), rate("index/64"), rate("disk/64"))
	add("index_256", "msg/s", "256 callers / disk with 256", atLeast(0.8), rate("index/256"), rate("disk/256"))
	add("index_batch", "msg/s", "batches of 500, 8 in flight / disk, the same", atLeast(0.9), rate("index/batch"), rate("disk/batch"))
	add("recall_1", "µs", "p50, 1 caller / echo + one synced commit", atMost(1.25), p50("recall/1"), p50("echo/1", "commit-recall/1"))
	add("recall_1_p99", "µs", "p99, 1 caller / the same", atMost(3), p99("recall/1"), p50("echo/1", "commit-recall/1"))
	add("recall_64", "recalls/s", "64 callers / disk with 64, five keys each", atLeast(0.6), rate("recall/64"), rate("disk-recall/64"))
	for _, name := range []string{"check", "status"} {
		add(name+"_1", "µs", "p50, 1 caller / echo", atMost(1.3), p50(name+"/1"), p50("echo/1"))
		add(name+"_64", "calls/s", "64 callers / echo with 64", atLeast(0.8), rate(name+"/64"), rate("echo/64"))
	}
	add("event", "µs", "p50, commit of a recall until notify is called / echo", atMost(1.5), event("event/1"), p50("echo/1"))
	add("decide", "µs", "a decision of the rules alone / p50 of check", atMost(0.1),
		func(round) float64 { return float64(s.decide.Nanoseconds()) / 1e3 }, p50("check/1"))

	size := func(n int64) string { return strings.ReplaceAll(number(float64(n)), ",", " ") }
	of := fmt.Sprintf("with %s messages / with %s", size(s.messages), size(s.base))
	for _, name := range []string{"index/1", "recall/1", "check/1", "status/1"} {
		add("large_"+strings.Replace(name, "/", "_", 1), "µs", of+", p50", atMost(1.3), p50(name+"@large"), p50(name))
	}
	add("large_event", "µs", of+", p50", atMost(1.3), event("event/1@large"), event("event/1"))
	for _, name := range []string{"index/64", "index/256", "index/batch", "recall/64", "check/64", "status/64"} {
		add("large_"+strings.Replace(name, "/", "_", 1), "calls/s", of, atLeast(0.77), rate(name+"@large"), rate(name))
	}
	const mib = 1 << 20
	out = append(out,
		single("memory_plugin", "MiB", fmt.Sprintf("anonymous memory of the plugin with %s messages / the most allowed; mapped files besides: %d MiB",
			size(s.messages), s.mapped/mib), float64(s.anonymous)/mib, 256),
		single("memory_host", "MiB", "anonymous memory of a host that has 64 callers and nothing else / the most allowed", float64(s.hostAnonymous)/mib, 32),
		single("disk_bytes", "bytes/msg", "tables after compaction / the most allowed", float64(s.diskBytes)/float64(s.messages), 250),
		single("cold_start", "s", "host.Open after a clean end / the most allowed", s.coldClean.Seconds(), 1),
		single("cold_start_killed", "s", "host.Open after SIGKILL under load / the most allowed", s.coldKilled.Seconds(), 3),
	)
	if s.postgresNote != "" {
		return out
	}
	for _, name := range []string{"index/1", "index/64", "index/256", "index/batch", "recall/1", "recall/64"} {
		to := strings.Replace(name, "/", "_", 1)
		add("postgres_"+to, "calls/s", "this / PostgreSQL, throughput", atLeast(1), rate(name), rate("pg-"+name))
		add("postgres_"+to+"_p50", "µs", "this / PostgreSQL, p50", atMost(1), p50(name), p50("pg-"+name))
		add("postgres_"+to+"_p99", "µs", "this / PostgreSQL, p99", atMost(1), p99(name), p99("pg-"+name))
	}
	return out
}

// plots are the pictures of a run, by file name.
func (s *speed) plots() map[string]*plot {
	middle := func(all []round, name string, of func(sample) float64) float64 {
		var values []float64
		for _, r := range all {
			values = append(values, of(r[name]))
		}
		return median(values)
	}
	callers := &plot{title: "Messages indexed a second, one a call", xTitle: "callers", yTitle: "messages/s",
		ticks: []string{"1", "4", "16", "64", "256"}}
	for _, l := range []struct{ label, name string }{{"disk (limit)", "disk"}, {"plugin", "index"}, {"PostgreSQL", "pg-index"}} {
		if l.name == "pg-index" && s.postgresNote != "" {
			continue
		}
		y := make([]float64, len(callers.ticks))
		for i, n := range callers.ticks {
			name := l.name + "/" + n
			if name == "disk/1" {
				name = "commit/1"
			}
			y[i] = middle(s.all, name, func(x sample) float64 { return x.rate })
		}
		callers.lines = append(callers.lines, line{l.label, y})
	}
	latency := &plot{title: "Latency of a call, one caller", xTitle: "percentile", yTitle: "µs", logY: true,
		ticks: []string{"50", "90", "99", "99.9"}}
	for _, name := range []string{"echo/1", "status/1", "check/1", "index/1", "recall/1", "pg-recall/1"} {
		if name == "pg-recall/1" && s.postgresNote != "" {
			continue
		}
		latency.lines = append(latency.lines, line{strings.TrimSuffix(name, "/1"), []float64{
			middle(s.all, name, func(x sample) float64 { return x.p50 }), middle(s.all, name, func(x sample) float64 { return x.p90 }),
			middle(s.all, name, func(x sample) float64 { return x.p99 }), middle(s.all, name, func(x sample) float64 { return x.p999 }),
		}})
	}
	size := &plot{title: "p50 of a call over the size of the index", xTitle: "messages in the index", yTitle: "µs"}
	for _, n := range s.sizes {
		size.ticks = append(size.ticks, number(float64(n)))
	}
	for _, name := range []string{"index/1", "recall/1", "check/1"} {
		l := line{name: strings.TrimSuffix(name, "/1")}
		for _, r := range s.bySize {
			l.y = append(l.y, r[name+"@large"].p50)
		}
		size.lines = append(size.lines, l)
	}
	return map[string]*plot{"throughput.svg": callers, "latency.svg": latency, "size.svg": size}
}

const tableStart, tableEnd = "<!-- made by: go run ./bench speed --readme bench/README.md -->\n", "<!-- end -->\n"

// text is the result for a person.
func (r *speedResult) text() string {
	out := fmt.Sprintf("%s; %s messages in the large index, medians of %d rounds, spread is half of the range\n\n%s",
		r.Machine, number(float64(r.Messages)), r.Rounds, printTable(r.Rows))
	if r.Restarts > 0 {
		out += fmt.Sprintf("\nThe plugin was restarted %d times while the large index grew.\n", r.Restarts)
	}
	if r.Postgres != "" {
		out += "\n" + r.Postgres + "\n"
	}
	return out
}

// write puts the table into a README, between its two marks, and the plots beside it.
func (s *speed) write(readme string, r *speedResult) error {
	old, err := os.ReadFile(readme)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(old), tableStart)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !found || !ended {
		return fmt.Errorf("%s has no place for the table: the lines %q and %q", readme, tableStart, tableEnd)
	}
	for name, p := range s.plots() {
		if err := os.WriteFile(filepath.Join(filepath.Dir(readme), name), []byte(p.svg()), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(readme, []byte(before+tableStart+r.text()+tableEnd+after), 0o644)
}
