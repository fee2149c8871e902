package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestParseBusy(t *testing.T) {
	const stat = "cpu  100 10 50 9000 400 5 6 7 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
	if got, want := parseBusy(stat), 178*tick; got != want {
		t.Errorf("busy for %s, want %s: idle and waiting do not count", got, want)
	}
	if got := parseBusy("nothing of the kind"); got != 0 {
		t.Errorf("busy for %s", got)
	}
}

func TestParseProcess(t *testing.T) {
	const stat = "42 (a) name (x)) S 7 42 42 0 -1 4194304 100 0 0 0 11 12 13 14 20 0 1 0 100 0 0"
	p, ok := parseProcess(stat)
	if !ok || p.parent != 7 || p.ended != 27*tick {
		t.Errorf("%+v, %v", p, ok)
	}
	if _, ok := parseProcess("42 (short) S 7"); ok {
		t.Error("a line that is cut off was read")
	}
}

func TestMachineLoad_WarnsOfABusyMachine(t *testing.T) {
	if line := (machineLoad{Before: busyPercent, During: busyPercent}).String(); strings.Contains(line, "Warning") {
		t.Errorf("at the threshold: %s", line)
	}
	for _, c := range []machineLoad{{Before: busyPercent + 1}, {During: busyPercent + 1}} {
		if line := c.String(); !strings.Contains(line, "Warning") {
			t.Errorf("above the threshold: %s", line)
		}
	}
}

// busyChild is a second process that works for about d.
func busyChild(t *testing.T, d time.Duration) *pingPong {
	t.Helper()
	w := &pingPong{}
	if err := w.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for start := w.child.cpu(); w.child.cpu()-start < d; {
		if _, err := w.ping(); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func TestCPUOf_CountsChildrenThatRunAndThatEnded(t *testing.T) {
	const work = 50 * time.Millisecond
	before := cpuOf(os.Getpid()) - ownCPU()
	w := busyChild(t, work)
	if got := cpuOf(os.Getpid()) - ownCPU() - before; got < work {
		t.Errorf("%s while the child runs, want %s at least", got, work)
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	if got := cpuOf(os.Getpid()) - ownCPU() - before; got < work-2*tick {
		t.Errorf("%s after the child has ended, want about %s", got, work)
	}
}
