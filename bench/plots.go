package main

import (
	"fmt"
	"strings"
)

// plots are the pictures of a run, by file name.
func plots(figures []sideFigures, sizes []sizeFigures) map[string]*plot {
	of := func(title, unit string, log bool, m metric) *plot {
		p := &plot{title: title, xTitle: "callers", yTitle: unit, logY: log}
		for _, n := range curve {
			p.ticks = append(p.ticks, fmt.Sprint(n))
		}
		for _, l := range []struct {
			label string
			side  side
		}{{"Recall", recallSide}, {"PostgreSQL", postgresSide}, {"limit", limitSide}} {
			var values []float64
			there := false
			for _, n := range curve {
				f, ok := find(figures, fmt.Sprintf("index_%d", n), l.side)
				values, there = append(values, m.of(f.sample)), there || ok
			}
			if there {
				p.lines = append(p.lines, line{l.label, values})
			}
		}
		return p
	}
	all := map[string]*plot{
		"rate.svg": of("Messages indexed a second, one a call", "messages/s", false, rate),
		"p50.svg":  of("Half of the calls are answered within", "p50, µs (log)", true, p50),
		"p99.svg":  of("99 of 100 calls are answered within", "p99, µs (log)", true, p99),
	}
	if len(sizes) > 0 {
		all["size.svg"] = sizePlot(sizes)
	}
	return all
}

// sizePlot shows what calls cost while the large index grew.
func sizePlot(sizes []sizeFigures) *plot {
	p := &plot{title: "A call over the size of the index, one caller", xTitle: "messages in the index", yTitle: "p50, µs"}
	for _, s := range sizes {
		p.ticks = append(p.ticks, number(float64(s.messages)))
	}
	for _, name := range sizeLooks {
		l := line{name: strings.ReplaceAll(name, "_", " ")}
		for _, s := range sizes {
			l.y = append(l.y, s.p50[name])
		}
		p.lines = append(p.lines, l)
	}
	return p
}
