// Command recall-plugin is the recall plugin of a chat server. A host starts it through hashicorp/go-plugin; run by
// hand it has tools.
package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/chat-recall/recall/internal/wire"
)

// subcommand is one subcommand. run gets the arguments after its name and returns the exit code.
type subcommand struct {
	name, help string
	run        func(args []string, stdout, stderr io.Writer) int
}

// commands are the subcommands, in the order of the help.
var commands = []subcommand{
	{"check", "find what is wrong with rule files, or with a plugin.hcl and its rules", runCheck},
	{"test", "run the tests and invariants of rule files", runTest},
	{"explain", "show how rule files decide one case, and why", runExplain},
	{"diff", "show what two policies decide differently", runDiff},
	{"fmt", "write rule files in the canonical form", runFmt},
	{"index", "verify, restore, salvage or convert the index of a server", runIndex},
	{"version", "print the versions of this binary, its protocol and its index", runVersion},
}

func main() {
	syscall.Umask(0o077) // what is made here tells who wrote to whom: others have no business in it
	if len(os.Args) == 1 && os.Getenv(wire.Handshake.MagicCookieKey) == wire.Handshake.MagicCookieValue {
		os.Exit(serve())
	}
	os.Exit(perform(os.Args[1:], os.Stdout, os.Stderr))
}

// perform is the binary as run by hand. An answer that could not be printed was not given.
func perform(args []string, stdout, stderr io.Writer) int {
	out := &output{Writer: stdout}
	code := byName(args, out, stderr)
	if out.err != nil {
		fmt.Fprintf(stderr, "recall-plugin: write to standard output: %v\n", out.err)
		return max(code, exitBad)
	}
	return code
}

// output remembers that a write failed.
type output struct {
	io.Writer
	err error
}

func (o *output) Write(text []byte) (int, error) {
	n, err := o.Writer.Write(text)
	o.err = cmp.Or(o.err, err)
	return n, err
}

// byName runs the command that args begin with.
func byName(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		help(stdout)
		return exitGood
	}
	for _, c := range commands {
		if c.name == args[0] {
			return c.run(args[1:], stdout, stderr)
		}
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		help(stdout)
		return exitGood
	}
	fmt.Fprintf(stderr, "recall-plugin: there is no subcommand %q; run recall-plugin help to see them\n", args[0])
	return exitUsage
}

func help(w io.Writer) {
	fmt.Fprint(w, `recall-plugin lets a chat server take messages back: it decides by rules who may recall which message,
keeps every recall until the server has carried it out, and never holds the text of a message.

A chat server starts it as a plugin and speaks to it over a private socket; it does nothing by itself. Name
this binary in the plugin block of plugin.hcl and open that file with the Go package
github.com/chat-recall/recall/host.

By hand:
`)
	for _, c := range commands {
		fmt.Fprintf(w, "  recall-plugin %-10s %s\n", c.name, c.help)
	}
	fmt.Fprintf(w, "  recall-plugin %-10s %s\n", "help", "print this")
	fmt.Fprint(w, "\nEach of them explains itself with -h.\n")
}
