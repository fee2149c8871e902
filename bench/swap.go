package main

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"time"

	"github.com/chat-recall/recall/host"
)

// between is how long callers work between two swaps or kills.
const between = 250 * time.Millisecond

// swapBench replaces the plugin again and again while callers work.
func swapBench(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("swap", flag.ContinueOnError)
	swaps := whole(set, "swaps", 40, 1, "how often the plugin is replaced")
	callers := whole(set, "callers", 32, 1, "goroutines that index and recall throughout")
	messages := whole(set, "messages", 0, 0, "messages indexed before")
	rate := whole(set, "rate", 5000, 0, "messages a second of all callers; 0: as fast as it goes")
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
	finish := startCallers(ctx, h, j, *callers, *rate)
	var gate []time.Duration
	upgrades, longest := 0, host.UpgradeReport{}
	for upgrades < *swaps && ctx.Err() == nil {
		time.Sleep(between)
		report, err := h.Upgrade(ctx, host.Binary{Path: filepath.Join(dir, "recall-plugin")})
		if err != nil {
			finish()
			return fmt.Errorf("swap %d: %w", upgrades+1, err)
		}
		upgrades++
		gate = append(gate, report.Held)
		if report.Held > longest.Held {
			longest = report
		}
		if upgrades%10 == 0 {
			progress("%d of %d swaps, %d calls", upgrades, *swaps, j.count())
		}
	}
	finish()
	f, err := j.verify(ctx, h)
	if err != nil {
		return err
	}
	if err := h.Close(); err != nil {
		return err
	}
	progress("bare handovers of the same data, slowest swap was %s: %v", longest.Held, longest.Steps)
	bare, err := handover(ctx, filepath.Join(dir, "index"), *rate)
	if err != nil {
		return err
	}
	figures := append([]figure{{"swaps", upgrades}, {"messages", *messages}}, j.figures(f)...)
	figures = append(figures,
		figure{"gate_closed_p50_ms", milliseconds(quantile(gate, 0.50))},
		figure{"gate_closed_max_ms", milliseconds(quantile(gate, 1))},
		figure{"handover_ms", min(bare.closed, bare.replayed)},
		figure{"handover_close_ms", bare.closed}, figure{"handover_replay_ms", bare.replayed},
		figure{"held_ratio", milliseconds(quantile(j.held, 0.99)) / min(bare.closed, bare.replayed)},
		figure{"seconds", int(time.Since(start).Seconds())})
	result(*asJSON, figures)
	return j.verdict(f)
}

func (j *journal) count() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.calls
}
