package main

import (
	"context"
	"errors"
	"testing"
)

func TestARunThatWouldTryNothingIsRefused(t *testing.T) {
	for _, c := range []struct {
		run  func(context.Context, []string) error
		args []string
	}{
		{crashBench, []string{"--kills", "-1"}},
		{crashBench, []string{"--callers", "0"}},
		{crashBench, []string{"--messages", "-5"}},
		{pressureBench, []string{"--large", "0"}},
		{hostsBench, []string{"--kills", "0"}},
		{swapBench, []string{"--swaps", "0"}},
		{swapBench, []string{"--rate", "many"}},
		{speedBench, []string{"--messages", "-1"}},
		{speedBench, []string{"--messages", "1", "more"}},
	} {
		if err := c.run(t.Context(), c.args); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v", c.args, err)
		}
	}
	if err := newJournal().verdict(findings{}); !errors.Is(err, errBad) {
		t.Errorf("a run without a call: %v", err)
	}
}
