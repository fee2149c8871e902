// Command bench measures the recall plugin against its limits and tries what a test has no time for. Each subcommand
// builds the plugin from this source, works in a temporary folder and prints figures, with --json one object last.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
)

type command struct {
	name, help string
	run        func(ctx context.Context, args []string) error
}

var commands = []command{
	{"swap", "replace the plugin under callers, and compare with a bare handover of the same data", swapBench},
	{"crash", "kill the plugin under callers at random moments", crashBench},
	{"speed", "measure every call, and compare with the limits of the machine and with PostgreSQL", speedBench},
	{"damage", "damage every kind of file of an index in many ways, and hold every answer against what was written",
		damageBench},
	{"pressure", "load plugin and host beyond their memory, and set hostile peers on them", pressureBench},
	{"power", "take the power from the disk of an index under callers", powerBench},
	{"hosts", "kill the host under callers at random moments, with its plugin", hostsBench},
	{"jobs", "measure calls while a job recalls messages, and without one", jobsBench},
	{"sidecar", "compare the sidecar with the SDK, or kill it under callers and workers", sidecarBench},
	{"cluster", "break a cluster of chat servers and servers of its log under load, in many ways", clusterBench},
}

// hidden are what the subcommands run as processes of their own.
var hidden = []command{
	{"handover-child", "", handoverChild},
	{"hosts-child", "", hostsChild},
	{"echo-child", "", echoChild},
	{"wire-child", "", wireChild},
	{"disk-child", "", diskChild},
	{"speed-child", "", speedChild},
	{"pressure-child", "", pressureChild},
	{"cluster-child", "", clusterChild},
}

// errUsage is for a command line that was already explained.
var errUsage = errors.New("wrong usage")

// errBad is for a measurement that shows something lost, already printed.
var errBad = errors.New("the run shows a failure")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if len(os.Args) < 2 || os.Args[1] == "-h" || os.Args[1] == "--help" || os.Args[1] == "help" {
		usage(os.Stdout)
		return
	}
	for _, c := range append(commands, hidden...) {
		if c.name != os.Args[1] {
			continue
		}
		switch err := c.run(ctx, os.Args[2:]); {
		case err == nil, errors.Is(err, flag.ErrHelp):
			return
		case errors.Is(err, errUsage):
			os.Exit(2)
		case errors.Is(err, errBad):
			os.Exit(1)
		default:
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
	}
	fmt.Fprintf(os.Stderr, "bench: there is no %q\n", os.Args[1])
	usage(os.Stderr)
	os.Exit(2)
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "usage: go run ./bench COMMAND [flags]   (COMMAND --help lists its flags)")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-8s %s\n", c.name, c.help)
	}
}

// parse reads the flags of a subcommand.
func parse(set *flag.FlagSet, args []string) error {
	if err := set.Parse(args); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil {
		return errUsage
	}
	if set.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "bench %s: %q is not a flag\n", set.Name(), set.Arg(0))
		return errUsage
	}
	return nil
}

// whole adds a flag for a whole number that is not below least.
func whole(set *flag.FlagSet, name string, value, least int, usage string) *int {
	set.Func(name, fmt.Sprintf("%s (default %d)", usage, value), func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < least {
			return fmt.Errorf("a whole number, %d or more", least)
		}
		value = n
		return nil
	})
	return &value
}

// progress tells a person how far it is.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// a figure is one line of a result.
type figure struct {
	name  string
	value any
}

// result prints figures in their order, as lines or as one JSON object.
func result(asJSON bool, figures []figure) {
	if !asJSON {
		for _, f := range figures {
			fmt.Printf("%-22s %v\n", f.name, f.value)
		}
		return
	}
	out := "{"
	for i, f := range figures {
		value, err := json.Marshal(f.value)
		if err != nil {
			panic(err) // figures are numbers
		}
		if i > 0 {
			out += ","
		}
		out += fmt.Sprintf("%q:%s", f.name, value)
	}
	fmt.Println(out + "}")
}

// workplace is a temporary folder with a plugin built from this source and a plugin.hcl for it.
func workplace() (dir, config string, remove func(), err error) {
	if dir, err = os.MkdirTemp("", "recall-bench"); err != nil {
		return "", "", nil, err
	}
	remove = func() { os.RemoveAll(dir) }
	binary := filepath.Join(dir, "recall-plugin")
	if out, err := exec.Command("go", "build", "-o", binary,
		"github.com/chat-recall/recall/plugin").CombinedOutput(); err != nil {
		remove()
		return "", "", nil, fmt.Errorf("build the plugin: %w\n%s", err, out)
	}
	config = filepath.Join(dir, "plugin.hcl")
	if err := writeConfig(config, binary, "index"); err != nil {
		remove()
		return "", "", nil, err
	}
	return dir, config, remove, nil
}

// writeConfig writes a plugin.hcl.
func writeConfig(file, binary, index string) error {
	text := fmt.Sprintf("plugin {\n  binary = %q\n}\n\nindex {\n  path = %q\n}\n", binary, index)
	return os.WriteFile(file, []byte(text), 0o600)
}
