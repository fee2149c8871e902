package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/chat-recall/recall/rules"
)

// Exit codes of the tools for rule files, for scripts.
const (
	exitGood  = 0
	exitBad   = 1 // the files are bad, a test failed, or what was asked for strictly is not so
	exitUsage = 2 // the command line is wrong
)

// tool is the command line of one subcommand: flags may stand before, between and after its paths.
type tool struct {
	*flag.FlagSet
	stdout, stderr io.Writer
	json           *bool
}

// newTool describes a subcommand by its usage line and what it is for.
func newTool(name, usage, about string, stdout, stderr io.Writer) *tool {
	t := &tool{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError), stdout: stdout, stderr: stderr}
	t.SetOutput(io.Discard) // parse says itself what is wrong
	t.json = t.Bool("json", false, "print one JSON object")
	t.Usage = func() {
		fmt.Fprintf(t.Output(), "usage: recall-plugin %s %s\n\n%s\n\n", name, usage, about)
		t.PrintDefaults()
	}
	return t
}

// parse returns the paths of the command line; done means that there is nothing to do but exit with code.
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

// wrongUsage says what is wrong with the command line, and where to read how it should be.
func (t *tool) wrongUsage(what string) int {
	fmt.Fprintf(t.stderr, "recall-plugin %s: %s\nrecall-plugin %s -h shows how it is used\n", t.Name(), what, t.Name())
	return exitUsage
}

// print shows v as JSON if that was asked for, else text.
func (t *tool) print(v any, text string) {
	if !*t.json {
		fmt.Fprint(t.stdout, text)
		return
	}
	e := json.NewEncoder(t.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	e.Encode(v)
}

// count is n of something, in words.
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// refused shows why rule files cannot be used.
func (t *tool) refused(diags rules.Diagnostics) int {
	t.print(struct {
		OK          bool              `json:"ok"`
		Diagnostics rules.Diagnostics `json:"diagnostics"`
	}{false, diags}, diags.String())
	return exitBad
}
