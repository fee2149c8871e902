package main

import (
	"errors"
	"flag"
	"strings"
	"testing"
)

func TestRun_WrongCommandLine(t *testing.T) {
	for _, c := range []struct {
		args  string
		err   error
		words string
	}{
		{"--help", flag.ErrHelp, "host-app replay"},
		{"--port 1", errUsage, "-addr"},
		{"serve", errUsage, "host-app replay"},
		{"replay --help", flag.ErrHelp, "FILE"},
		{"replay", errUsage, "FILE"},
		{"replay a b", errUsage, "FILE"},
	} {
		var said strings.Builder
		err := run(t.Context(), strings.Fields(c.args), &said, &said)
		if !errors.Is(err, c.err) || !strings.Contains(said.String(), c.words) {
			t.Errorf("host-app %s: %v, and it said %s", c.args, err, said.String())
		}
	}
}
