package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/badgerdir"
	"github.com/chat-recall/recall/internal/index"
)

// indexCommands are the subcommands of recall-plugin index.
var indexCommands = []subcommand{
	{"verify", "read every file of an index and name what is damaged", runIndexVerify},
	{"restore", "make an index of a backup", runIndexRestore},
	{"compact", "write an index into new files, without what was forgotten", runIndexCompact},
	{"salvage", "make an index of what can be read of a damaged one", runIndexSalvage},
	{"to-cluster", "take the index of a single machine into a new cluster", runIndexToCluster},
	{"to-single", "make the index of a single machine of that of a node of a cluster", runIndexToSingle},
}

// runIndex is recall-plugin index.
func runIndex(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 || strings.HasPrefix(args[0], "-h") || args[0] == "--help" || args[0] == "help" {
		fmt.Fprint(stdout, "usage: recall-plugin index COMMAND\n\n"+
			"Works on the folder of an index that no server has open.\n\n")
		for _, c := range indexCommands {
			fmt.Fprintf(stdout, "  recall-plugin index %-10s %s\n", c.name, c.help)
		}
		fmt.Fprint(stdout, "\nEach of them explains itself with -h.\n")
		return exitGood
	}
	for _, c := range indexCommands {
		if c.name == args[0] {
			return c.run(args[1:], stdout, stderr)
		}
	}
	fmt.Fprintf(stderr, "recall-plugin index: there is no command %q; run recall-plugin index -h to see them\n", args[0])
	return exitUsage
}

// failed says why a command could not do its work.
func (t *tool) failed(err error) int {
	t.print(struct {
		OK    bool   `json:"ok"`
		Error string `json:"error"`
	}{false, err.Error()}, "")
	fmt.Fprintf(t.stderr, "recall-plugin %s: %v\n", t.Name(), err)
	return exitBad
}

// progress prints how far a command is, at most once a second.
func (t *tool) progress() func(format string, args ...any) {
	last := time.Now()
	return func(format string, args ...any) {
		if time.Since(last) < time.Second {
			return
		}
		last = time.Now()
		fmt.Fprintf(t.stderr, format+"\n", args...)
	}
}

// interruptible ends with Ctrl-C and SIGTERM.
func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// openIndex verifies an index that no server has open, and opens it.
func (t *tool) openIndex(
	ctx context.Context, folder string, say func(format string, args ...any),
) (*index.Index, error) {
	r, err := badgerdir.Verify(ctx, folder, func(done, total int64) { say("%d of %d MiB read", done>>20, total>>20) })
	if err == nil && !r.OK {
		err = fmt.Errorf("%s: %w", folder, &badgerdir.DamageError{Found: r.Damage})
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second) // it was not held a moment ago
	defer cancel()
	return index.Open(ctx, index.Options{Path: folder, Logger: t.logger()})
}

func (t *tool) logger() hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Name: "recall-plugin", Output: t.stderr, Level: hclog.Warn})
}

// runIndexVerify is recall-plugin index verify.
func runIndexVerify(args []string, stdout, stderr io.Writer) int {
	t := newTool("index verify", "[--json] PATH",
		"Reads every file of the index in the folder PATH, which no server has open, and changes nothing.\n"+
			"Exits with 1 where something is damaged or missing.", stdout, stderr)
	paths, code, done := t.parse(args)
	switch {
	case done:
		return code
	case len(paths) != 1:
		return t.wrongUsage("name the folder of the index (index.path in plugin.hcl)")
	}
	ctx, stop := interruptible()
	defer stop()
	say := t.progress()
	r, err := badgerdir.Verify(ctx, paths[0], func(done, total int64) { say("%d of %d MiB", done>>20, total>>20) })
	if err != nil {
		return t.failed(err)
	}
	var text strings.Builder
	for _, d := range r.Damage {
		fmt.Fprintln(&text, d)
	}
	if r.OK {
		fmt.Fprintf(&text, "the index %s is whole: %s of %d MiB, %s, last commit %d\n",
			r.Index.ID, count(r.Tables, "table"), r.Bytes>>20, count(r.Logs, "log"), r.Index.Version)
	} else {
		fmt.Fprintf(&text, "%s; restore the index from a backup, or save what can be read of it "+
			"(recall-plugin index salvage)\n",
			count(len(r.Damage), "damaged place"))
	}
	t.print(r, text.String())
	if !r.OK {
		return exitBad
	}
	return exitGood
}

// runIndexRestore is recall-plugin index restore.
func runIndexRestore(args []string, stdout, stderr io.Writer) int {
	t := newTool("index restore", "[--json] FILE PATH",
		"Makes an index of the backup in FILE (- for standard input), which Host.Backup wrote, in the folder PATH,\n"+
			"which is not there or empty. What happened after the backup is gone; cursors that were given out before are void.",
		stdout, stderr)
	paths, code, done := t.parse(args)
	switch {
	case done:
		return code
	case len(paths) != 2:
		return t.wrongUsage("name the file with the backup and the folder of the index (index.path in plugin.hcl)")
	}
	in := os.Stdin
	if paths[0] != "-" {
		f, err := os.Open(paths[0])
		if err != nil {
			return t.failed(err)
		}
		defer f.Close()
		in = f
	}
	ctx, stop := interruptible()
	defer stop()
	say := t.progress()
	r, err := index.Restore(ctx, in, paths[1], hclog.NewNullLogger(), func(keys uint64) { say("%d keys", keys) })
	if err != nil {
		return t.failed(err)
	}
	t.print(r, fmt.Sprintf("the index %s is restored to what it was on %s, with %d keys; its new epoch is %s\n",
		r.Index.ID, r.Backup.Created.Format(time.RFC3339), r.Keys, r.Index.Epoch))
	return exitGood
}

// runIndexSalvage is recall-plugin index salvage.
func runIndexSalvage(args []string, stdout, stderr io.Writer) int {
	t := newTool("index salvage", "[--json] FROM TO",
		"Makes an index of what can be read of the damaged one in the folder FROM, which it does not change, in the\n"+
			"folder TO, which is not there or empty, and tells what was lost.\n"+
			"What is recalled stays recalled wherever any trace of it is left.", stdout, stderr)
	paths, code, done := t.parse(args)
	switch {
	case done:
		return code
	case len(paths) != 2:
		return t.wrongUsage("name the folder of the damaged index and the folder for the new one")
	}
	ctx, stop := interruptible()
	defer stop()
	r, err := index.Salvage(ctx, paths[0], paths[1], hclog.NewNullLogger())
	if err != nil {
		return t.failed(err)
	}
	var text strings.Builder
	for _, d := range r.Lost {
		fmt.Fprintf(&text, "lost: %s\n", d)
	}
	fmt.Fprintf(&text, "saved %s, %d of them recalled, from %s with %s\n", count(r.Messages, "message"), r.Recalls,
		paths[0], count(len(r.Lost), "damaged place"))
	for _, line := range []struct {
		n    int
		text string
	}{
		{r.RecalledByLedger, "are recalled because their ledger says so: their own record was lost, or was an older one"},
		{r.FactsLost, "are recalled, and nothing else is known of them"},
		{r.LedgersLost, "are recalled, and their ledger is lost: " +
			"their event is not delivered again, and Since does not list it"},
	} {
		if line.n > 0 {
			fmt.Fprintf(&text, "%s %s\n", count(line.n, "message"), line.text)
		}
	}
	t.print(r, text.String())
	return exitGood
}

// compacted says what index compact did.
type compacted struct {
	Path   string         `json:"path"`
	Index  index.Identity `json:"index"`
	Keys   uint64         `json:"keys"`
	Before int64          `json:"bytes_before"` // of the files
	After  int64          `json:"bytes_after"`
}

// runIndexCompact is recall-plugin index compact.
func runIndexCompact(args []string, stdout, stderr io.Writer) int {
	t := newTool("index compact", "[--json] PATH",
		"Writes the index in the folder PATH, which no server has open, into new files and puts them in its place. The new\n"+
			"files have nothing that was forgotten, deleted or replaced. Cursors stay valid. The disk needs free space for a\n"+
			"second index. If it is killed, the index is as it was; run it again. A server that runs has Host.Compact, and a\n"+
			"sidecar /v1/admin/compact.", stdout, stderr)
	paths, code, done := t.parse(args)
	switch {
	case done:
		return code
	case len(paths) != 1:
		return t.wrongUsage("name the folder of the index (index.path in plugin.hcl)")
	}
	ctx, stop := interruptible()
	defer stop()
	r, err := t.compact(ctx, paths[0])
	if err != nil {
		return t.failed(err)
	}
	t.print(r, fmt.Sprintf("the index %s is compacted: %d keys, %d MiB, which were %d MiB\n",
		r.Index.ID, r.Keys, r.After>>20, r.Before>>20))
	return exitGood
}

func (t *tool) compact(ctx context.Context, path string) (r compacted, err error) {
	say := t.progress()
	x, err := t.openIndex(ctx, path, say)
	if err != nil {
		return r, err
	}
	r = compacted{Path: path, Index: x.Identity(), Before: folderBytes(path)}
	err = x.Compact(ctx, func(keys uint64) {
		r.Keys = keys
		say("%d keys", keys)
	})
	if err := errors.Join(err, x.Close()); err != nil {
		return r, err
	}
	r.After = folderBytes(path)
	return r, nil
}

// folderBytes is what the files of a folder take on the disk.
func folderBytes(path string) (bytes int64) {
	files, _ := os.ReadDir(path) // what cannot be read counts as nothing
	for _, f := range files {
		if info, err := f.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				bytes += st.Blocks * 512
			}
		}
	}
	return bytes
}
