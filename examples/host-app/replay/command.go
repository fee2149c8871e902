// Package replay runs a recorded trace through the chat server and looks for what should have gone: the texts of
// recalled messages.
package replay

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/examples/host-app/chat"
	"github.com/chat-recall/recall/host"
)

// report is what a replay ends with.
type report struct {
	Messages int            `json:"messages"`
	Recalls  int            `json:"recalls"`
	Jobs     int            `json:"jobs"`
	ByStatus map[string]int `json:"by_status"`
	// Refused are messages that the server did not take: sent again after their recall, or an id used twice
	Refused      int     `json:"refused"`
	Mismatches   int     `json:"mismatches"`
	Events       int     `json:"events"` // delivered to the server's steps
	StepsSettled int     `json:"steps_settled"`
	Unsettled    int     `json:"unsettled"` // steps still open at the end
	Leaks        int     `json:"leaks"`
	Restarts     int     `json:"restarts"` // of the plugin
	Seconds      float64 `json:"seconds"`
}

// Options are what a replay is asked for.
type Options struct {
	Trace  string // the file: JSON lines, plain or gzipped
	Data   string // an empty folder to keep the data in; empty: a temporary one
	Config string // the plugin.hcl that names the plugin's binary
	JSON   bool   // print the counts as one JSON object
}

// Run replays a trace and prints what it counted. A mismatch, an open step or a leak is an error.
func Run(ctx context.Context, o Options, stdout, stderr io.Writer) error {
	lines, err := readTrace(o.Trace)
	if err != nil {
		return err
	}
	dir, cleanup, err := replayFolder(o.Data)
	if err != nil {
		return err
	}
	defer cleanup()
	log := hclog.New(&hclog.LoggerOptions{Name: "host-app", Level: hclog.Warn, Output: stderr})
	if err := chat.BuildPlugin(ctx, o.Config, stderr); err != nil {
		return err
	}
	named, err := host.ConfiguredBinary(o.Config)
	if err != nil {
		return err
	}
	r := &replay{lines: lines, dir: dir, binary: named.Path, out: stderr, log: log}
	result, err := r.run(ctx)
	if err != nil {
		return err
	}
	if o.JSON {
		err = json.NewEncoder(stdout).Encode(result)
	} else {
		result.print(stdout)
	}
	if result.Mismatches+result.Unsettled+result.Leaks > 0 {
		return fmt.Errorf("%d mismatches, %d unsettled steps, %d leaks", result.Mismatches, result.Unsettled, result.Leaks)
	}
	return err
}

// replayFolder is the folder that was named, which must be empty, or a temporary one.
func replayFolder(named string) (dir string, cleanup func(), err error) {
	if named == "" {
		if dir, err = os.MkdirTemp("", "recall-replay-"); err != nil {
			return "", nil, fmt.Errorf("make a data folder: %w", err)
		}
		return dir, func() { _ = os.RemoveAll(dir) }, nil
	}
	if err := os.MkdirAll(named, 0o700); err != nil {
		return "", nil, fmt.Errorf("make the data folder: %w", err)
	}
	entries, err := os.ReadDir(named)
	if err != nil {
		return "", nil, fmt.Errorf("read the data folder: %w", err)
	}
	if len(entries) > 0 {
		return "", nil, fmt.Errorf("--data %s: the folder is not empty; name an empty or new one, or leave out --data", named)
	}
	dir, err = filepath.Abs(named)
	return dir, func() {}, err
}

func (r report) print(w io.Writer) {
	fmt.Fprintf(w, "%d messages (%d refused), %d recalls, %d jobs in %.1f s\n", r.Messages, r.Refused, r.Recalls,
		r.Jobs, r.Seconds)
	statuses := make([]string, 0, len(r.ByStatus))
	for s := range r.ByStatus {
		statuses = append(statuses, s)
	}
	slices.Sort(statuses)
	for _, s := range statuses {
		fmt.Fprintf(w, "  %-28s %6d\n", s, r.ByStatus[s])
	}
	fmt.Fprintf(w, "%d mismatches\n%d events delivered, %d steps settled, %d unsettled\n%d leaks\n",
		r.Mismatches, r.Events, r.StepsSettled, r.Unsettled, r.Leaks)
}
