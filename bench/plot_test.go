package main

import (
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// texts checks that an SVG is well-formed and returns its texts and the colors of its lines.
func texts(t *testing.T, svg string) (texts, colors []string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return texts, colors
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		switch x := token.(type) {
		case xml.CharData:
			if s := strings.TrimSpace(string(x)); s != "" {
				texts = append(texts, s)
			}
		case xml.StartElement:
			if x.Name.Local != "polyline" {
				continue
			}
			for _, a := range x.Attr {
				if a.Name.Local == "stroke" {
					colors = append(colors, a.Value)
				}
			}
		}
	}
}

func TestPlots(t *testing.T) {
	for name, p := range plots(exampleResult().Figures, []sizeFigures{
		{1000, map[string]float64{"index": 400, "check": 80, "recall": 600}},
		{10_000, map[string]float64{"index": 410, "check": 85, "recall": 610}},
	}) {
		t.Run(name, func(t *testing.T) {
			got, colors := texts(t, p.svg())
			want := append([]string{p.title, p.xTitle, p.yTitle}, p.ticks...)
			for _, l := range p.lines {
				want = append(want, l.name)
			}
			for _, w := range want {
				if !slices.Contains(got, w) {
					t.Errorf("it does not say %q", w)
				}
			}
			if n := len(slices.Compact(slices.Sorted(slices.Values(colors)))); n != len(p.lines) || n < 2 {
				t.Errorf("%d lines have %d colors", len(p.lines), n)
			}
			if !strings.ContainsAny(p.yTitle, "/,") {
				t.Errorf("the axis %q has no unit", p.yTitle)
			}
		})
	}
}

func TestPlots_LeaveOutASideThatIsMissing(t *testing.T) {
	for _, l := range plots(exampleResult().Figures, nil)["rate.svg"].lines {
		if l.name == "limit" {
			t.Error("a line for a limit that was not measured")
		}
	}
}

func TestPlot_EscapesItsTexts(t *testing.T) {
	p := &plot{
		title: "a < b & c", xTitle: "<x>", yTitle: "y", ticks: []string{"1"}, lines: []line{{"<line>", []float64{1}}},
	}
	got, _ := texts(t, p.svg())
	for _, want := range []string{"a < b & c", "<x>", "<line>"} {
		if !slices.Contains(got, want) {
			t.Errorf("no text %q in %q", want, got)
		}
	}
}
