package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// A plot is a line chart that is written as SVG.
type plot struct {
	title, xTitle, yTitle string
	ticks                 []string // of x; the points of a line are at them, in order
	lines                 []line
	logY                  bool
}

type line struct {
	name string
	y    []float64
}

// plotColors are of the palette of Okabe and Ito, which color-blind people can tell apart. Each line has its own dash
// too.
var (
	plotColors = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7"}
	plotDashes = []string{"none", "8 4", "2 3", "8 3 2 3"}
)

const (
	plotWidth, plotHeight                 = 760, 420
	plotLeft, plotRight, plotTop, plotEnd = 90, 170, 50, 60 // margins
)

func (p *plot) svg() string {
	top, bottom := 0.0, math.Inf(1)
	for _, l := range p.lines {
		for _, y := range l.y {
			if y > 0 {
				top, bottom = max(top, y), min(bottom, y)
			}
		}
	}
	grid := p.grid(bottom, top)
	low, high := grid[0], grid[len(grid)-1]
	innerWidth, innerHeight := float64(plotWidth-plotLeft-plotRight), float64(plotHeight-plotTop-plotEnd)
	xAt := func(i int) float64 { return plotLeft + innerWidth*(float64(i)+0.5)/float64(len(p.ticks)) }
	yAt := func(v float64) float64 {
		share := (v - low) / (high - low)
		if p.logY {
			share = math.Log(v/low) / math.Log(high/low)
		}
		return plotTop + innerHeight*(1-share)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" `+
		`font-size="12">`+"\n",
		plotWidth, plotHeight)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<text x="%d" y="28" font-size="16">%s</text>`+"\n", plotLeft, html.EscapeString(p.title))
	for _, v := range grid {
		fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/>`,
			plotLeft, plotWidth-plotRight, yAt(v), yAt(v))
		fmt.Fprintf(&b, `<text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", plotLeft-8, yAt(v)+4, number(v))
	}
	for i, tick := range p.ticks {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", xAt(i), plotHeight-plotEnd+20, tick)
	}
	fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
		plotLeft+innerWidth/2, plotHeight-18, html.EscapeString(p.xTitle))
	fmt.Fprintf(&b, `<text transform="translate(22 %.1f) rotate(-90)" text-anchor="middle">%s</text>`+"\n",
		plotTop+innerHeight/2, html.EscapeString(p.yTitle))
	for n, l := range p.lines {
		color, dash := plotColors[n%len(plotColors)], plotDashes[n%len(plotDashes)]
		var points []string
		for i, y := range l.y {
			if y > 0 {
				points = append(points, fmt.Sprintf("%.1f,%.1f", xAt(i), yAt(y)))
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`, xAt(i), yAt(y), color)
			}
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2" stroke-dasharray="%s"/>`+"\n",
			strings.Join(points, " "), color, dash)
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s</text>`+"\n",
			plotWidth-plotRight+12, plotTop+16+20*n, color, html.EscapeString(l.name))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// grid is where the lines across are: round numbers from at most low to at least high.
func (p *plot) grid(low, high float64) []float64 {
	if high == 0 {
		return []float64{1, 10}
	}
	if p.logY {
		out := []float64{math.Pow(10, math.Floor(math.Log10(low)))}
		for out[len(out)-1] < high || len(out) < 2 {
			out = append(out, out[len(out)-1]*10)
		}
		return out
	}
	step := math.Pow(10, math.Floor(math.Log10(high)))
	if high/step < 3 {
		step /= 4
	}
	out := []float64{0}
	for out[len(out)-1] < high {
		out = append(out, out[len(out)-1]+step)
	}
	return out
}
