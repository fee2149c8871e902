package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestSpeed measures a few rows with real processes.
func TestSpeed(t *testing.T) {
	profiles := t.TempDir()
	s := &speed{
		messages: 1000, base: 1000, rounds: 2, run: 30 * time.Millisecond, profiles: profiles,
		match: regexp.MustCompile("^(index_1_wire|recall_step_1_rate|status_1_socket|event|cold_start)$"),
	}
	result, _, err := s.measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"index_1_wire", "recall_step_1_rate", "status_1_socket", "event", "cold_start"}
	if result.Postgres != "" { // the row beside it is left out
		want = append(want[:1], want[2:]...)
	}
	var got []string
	for _, r := range result.Rows {
		got = append(got, r.Name)
		if r.Name == "event" { // the time between two arrivals, which a busy machine turns round
			continue
		}
		if r.Ratio <= 0 || r.Value <= 0 {
			t.Errorf("%+v", r)
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("rows %q, want %q", got, want)
	}
	for _, f := range result.Figures {
		if f.Rate <= 0 || f.P99 < f.P50 || f.CPU == 0 || f.Rounds < 2 {
			t.Errorf("%+v", f)
		}
	}
	if files, err := filepath.Glob(filepath.Join(profiles, "index_1-recall-*.pprof")); err != nil || len(files) < 2 {
		t.Errorf("profiles %q, %v", files, err)
	} else if info, err := os.Stat(files[0]); err != nil || info.Size() == 0 {
		t.Errorf("an empty profile: %v", err)
	}
}

func TestSpeed_NoRowMatches(t *testing.T) {
	s := &speed{messages: 1000, base: 1000, rounds: 1, run: time.Millisecond, match: regexp.MustCompile("no_such_row")}
	if _, _, err := s.measure(t.Context()); err == nil || !strings.Contains(err.Error(), `no row matches "no_such_row"`) {
		t.Errorf("got %v", err)
	}
}
