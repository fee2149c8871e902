package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/chat-recall/recall/rules"
)

// Exit codes of the commands for rule files.
const (
	exitGood  = 0
	exitBad   = 1 // files have errors, a test failed, or a strict check did
	exitUsage = 2 // the command line is wrong
)

// tool is the command line of one subcommand. Flags can come before, between and after paths.
type tool struct {
	*flag.FlagSet
	stdout, stderr io.Writer
	json           *bool
}

// newTool returns a subcommand with its usage line and description.
func newTool(name, usage, about string, stdout, stderr io.Writer) *tool {
	t := &tool{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError), stdout: stdout, stderr: stderr}
	t.SetOutput(io.Discard) // parse reports errors itself
	t.json = t.Bool("json", false, "print one JSON object")
	t.Usage = func() {
		fmt.Fprintf(t.Output(), "usage: recall-plugin %s %s\n\n%s\n\n", name, usage, about)
		t.PrintDefaults()
	}
	return t
}

// parse returns the paths of the command line. If done is set, exit with code.
func (t *tool) parse(args []string) (paths []string, code int, done bool) {
	for {
		if err := t.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				t.SetOutput(t.stdout)
				t.Usage()
				return nil, exitGood, true
			}
			return nil, t.wrongUsage(err.Error()), true
		}
		if args = t.Args(); len(args) == 0 {
			return paths, exitGood, false
		}
		paths, args = append(paths, args[0]), args[1:]
	}
}

// wrongUsage reports an error of the command line.
func (t *tool) wrongUsage(what string) int {
	fmt.Fprintf(t.stderr, "recall-plugin %s: %s\nrecall-plugin %s -h shows the usage\n", t.Name(), what, t.Name())
	return exitUsage
}

// print prints v with --json, else text.
func (t *tool) print(v any, text string) {
	if !*t.json {
		fmt.Fprint(t.stdout, text)
		return
	}
	e := json.NewEncoder(t.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // as with every print: nobody is left to say it to
}

// count returns n and a noun, as in "2 rules".
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// refused prints why files cannot be used.
func (t *tool) refused(diags rules.Diagnostics) int {
	t.print(struct {
		OK          bool              `json:"ok"`
		Diagnostics rules.Diagnostics `json:"diagnostics"`
	}{false, diags}, diags.String())
	return exitBad
}
