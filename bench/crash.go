package main

import (
	"context"
	"flag"
	"math/rand/v2"
	"syscall"
	"time"
)

// crashBench kills the plugin again and again while callers work.
func crashBench(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("crash", flag.ContinueOnError)
	kills := whole(set, "kills", 50, 1, "how often the plugin gets SIGKILL")
	callers := whole(set, "callers", 32, 1, "goroutines that index and recall throughout")
	messages := whole(set, "messages", 0, 0, "messages indexed before")
	asJSON := set.Bool("json", false, "print one JSON object")
	if err := parse(set, args); err != nil {
		return err
	}
	dir, config, remove, err := workplace()
	if err != nil {
		return err
	}
	defer remove()
	j := newJournal()
	start := time.Now()
	h, err := openFilled(ctx, dir, config, j, *messages)
	if err != nil {
		return err
	}
	defer h.Close()
	finish := startCallers(ctx, h, j, *callers, 0)
	killed := 0
	for killed < *kills && ctx.Err() == nil {
		time.Sleep(rand.N(2 * between)) // also while it is starting
		pid := h.State().PID
		if pid == 0 {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			continue // it is just being replaced
		}
		killed++
		if killed%10 == 0 {
			progress("%d of %d kills, %d calls", killed, *kills, j.count())
		}
	}
	finish()
	f, err := j.verify(ctx, h)
	if err != nil {
		return err
	}
	figures := []figure{{"kills", killed}, {"restarts", h.State().Restarts}, {"messages", *messages}}
	figures = append(figures, j.figures(f)...)
	result(*asJSON, append(figures, figure{"seconds", int(time.Since(start).Seconds())}))
	return j.verdict(f)
}
