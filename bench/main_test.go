package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
)

// TestMain lets this binary be the second processes of what is tested.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.ContainsFunc(hidden, func(c command) bool { return c.name == os.Args[1] }) {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestCommands_RefuseToTryNothing(t *testing.T) {
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
		{speedBench, []string{"--rows", "index_("}},
		{speedBench, []string{"--rows", "index", "--readme", "README.md"}},
	} {
		if err := c.run(t.Context(), c.args); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v", c.args, err)
		}
	}
	if err := newJournal().verdict(findings{}); !errors.Is(err, errBad) {
		t.Errorf("a run without a call: %v", err)
	}
}
