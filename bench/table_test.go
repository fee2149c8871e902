package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func exampleResult() *speedResult {
	return &speedResult{
		Machine: "a machine", Load: machineLoad{Average: 0.5, Before: 50, During: 20}, Messages: 10_000_000, Rounds: 5,
		Rows: []row{
			{Name: "index_1_rate", Value: 1234, Beside: 1000, Ratio: 1.23, Spread: 0.05, Target: "≥ 1", OK: true,
				Unit: "msg/s"},
			{Name: "index_2_rate", Value: 800, Beside: 1000, Ratio: 0.8, Spread: 0.5, Varies: true, Target: "≥ 1",
				Unit: "msg/s"},
			{Name: "check_1_rate", Value: 800, Beside: 1000, Ratio: 0.8, OK: true, Unit: "calls/s"},
		},
		Figures: []sideFigures{
			{Name: "index_1", What: "index, 1 caller", Side: recallSide, Label: "Recall", Unit: "msg/s",
				sample: sample{Rate: 1234, P50: 440, P99: 812, CPU: 450}},
			{Name: "index_1", What: "index, 1 caller", Side: postgresSide, Label: "PostgreSQL", Unit: "msg/s",
				sample: sample{Rate: 1000, P50: 500, P99: 900}},
			{Name: "index_256", What: "index, 256 callers", Side: recallSide, Label: "Recall", Unit: "msg/s",
				sample: sample{Rate: 50_000, P50: 4000, P99: 9000}},
		},
	}
}

func TestResult_Text(t *testing.T) {
	text := exampleResult().text()
	if !strings.HasPrefix(text, "Other processes used 50 % of the processors before the run and 20 % during it") {
		t.Errorf("the first line is not about the machine:\n%s", text)
	}
	for _, want := range []string{
		"| index_1_rate | 1,234 | 1,000 | msg/s | 1.23 | 5 % | ≥ 1 | yes |",
		"| index_2_rate | 800 | 1,000 | msg/s | 0.8 | 50 % varies | ≥ 1 | **no** |",
		"| check_1_rate | 800 | 1,000 | calls/s | 0.8 | 0 % |  |  |",
		"| index, 1 caller | Recall | 1,234 | msg/s | 440 | 812 | 450 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no line %q in\n%s", want, text)
		}
	}
}

func TestResult_JSON(t *testing.T) {
	text, err := exampleResult().json()
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Load struct {
			Before float64 `json:"before_percent"`
		} `json:"load"`
		Rows []struct {
			Name   string `json:"name"`
			Varies bool   `json:"varies"`
		} `json:"rows"`
		Figures []struct {
			Side string  `json:"side"`
			P99  float64 `json:"p99"`
			CPU  float64 `json:"cpu"`
		} `json:"figures"`
	}
	if err := json.Unmarshal([]byte(text), &back); err != nil {
		t.Fatal(err)
	}
	if back.Load.Before != 50 || !back.Rows[1].Varies || back.Figures[0].P99 != 812 || back.Figures[0].CPU != 450 {
		t.Errorf("%+v", back)
	}
}

func TestResult_WriteReplacesTheTable(t *testing.T) {
	r, readme := exampleResult(), filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(readme, []byte("before\n"+tableStart+"old\n"+tableEnd+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.write(readme, plots(r.Figures, nil)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	if want := "before\n" + tableStart + r.text() + tableEnd + "after\n"; string(text) != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	for _, name := range []string{"rate.svg", "p50.svg", "p99.svg"} {
		if _, err := os.Stat(filepath.Join(filepath.Dir(readme), name)); err != nil {
			t.Error(err)
		}
	}
	t.Run("a README without a place for it stays", func(t *testing.T) {
		if err := os.WriteFile(readme, []byte("nothing\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.write(readme, nil); err == nil || !strings.Contains(err.Error(), "no place for the table") {
			t.Errorf("got %v", err)
		}
	})
}

// TestReadme checks that the files of the project have what --readme writes to and shows.
func TestReadme(t *testing.T) {
	bench, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(bench), tableStart) || !strings.Contains(string(bench), tableEnd) {
		t.Error("bench/README.md has no place for the table")
	}
	project, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(project), "(bench/rate.svg)") {
		t.Error("README.md does not show the curve")
	}
	for name := range plots(exampleResult().Figures, []sizeFigures{{messages: 1000}}) {
		if !strings.Contains(string(bench), "("+name+")") {
			t.Errorf("bench/README.md does not show %s", name)
		}
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
	for _, s := range postgresSettings {
		if !strings.Contains(string(bench), "\n"+s+"\n") {
			t.Errorf("bench/README.md does not have the setting %s", s)
		}
	}
}
