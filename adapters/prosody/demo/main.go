// Command demo starts Prosody with mod_recall, recall-sidecar and recall-plugin on this machine. Connect with any XMPP
// client that may speak without TLS to 127.0.0.1, and take messages back.
//
//	go run ./adapters/prosody/demo --data data/prosody
//
// It has the accounts alice, bob, carol, dave and erin at localhost, with passwords such as pw-alice, the room
// lobby@rooms.localhost, and uploads at files.localhost. Everything that it stores is in the folder of --data.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

type options struct {
	data    string        // folder of everything
	window  time.Duration // in which senders can recall
	offset  int           // added to all ports
	storage string        // internal or sql
}

func (o options) port(base int) int { return base + o.offset }

// The ports, before the offset.
const (
	portC2S     = 15222
	portHTTP    = 15280
	portSidecar = 15390
)

func main() {
	// The kernel ends a child when the thread that started it ends. The main thread lasts as long as the process.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	go func() {
		if startedByGo() {
			awaitParent(ctx)
			stop()
		}
	}()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// startedByGo tells whether the parent of this process is go run, which does not pass SIGTERM on: the demo would
// outlive it. A shell that started the demo in the background may well end before it.
func startedByGo() bool {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", os.Getppid()))
	return err == nil && string(name) == "go\n"
}

// awaitParent returns when the parent of this process has ended.
func awaitParent(ctx context.Context) {
	parent := os.Getppid()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for os.Getppid() == parent {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.data, "data", "data/prosody", "the folder of everything that is stored")
	flags.DurationVar(&o.window, "window", 2*time.Minute,
		"how long after sending users can recall a message, at most 168h")
	flags.IntVar(&o.offset, "offset", 0, "a number that is added to all ports")
	flags.StringVar(&o.storage, "storage", "internal", "the storage of Prosody: internal, or sql with SQLite")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.storage != "internal" && o.storage != "sql":
		return o, fmt.Errorf("--storage is %q; it can be internal or sql", o.storage)
	case o.window <= 0 || o.window > 7*24*time.Hour:
		return o, fmt.Errorf("--window is %s; it can be 1ns to 168h", o.window)
	case o.offset < 0 || o.port(portSidecar) > 65535:
		return o, fmt.Errorf("--offset is %d; it can be 0 to %d", o.offset, 65535-portSidecar)
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	d, err := prepare(ctx, o, stdout)
	if err != nil {
		return err
	}
	sidecar := &process{name: "recall-sidecar", args: []string{d.sidecar, "--config", d.path("sidecar.hcl")},
		log: d.path("sidecar.log")}
	prosody := &process{name: "prosody", args: []string{d.prosody, "-F", "--config", d.path("prosody.cfg.lua")},
		log: d.path("prosody.log")}
	return supervise(ctx, []*process{sidecar, prosody}, stdout, func(ctx context.Context) error {
		if err := d.awaitReady(ctx); err != nil {
			return err
		}
		fmt.Fprintf(stdout, `Ready. Connect without TLS to 127.0.0.1:%d, domain localhost.
  accounts   alice bob carol dave erin @localhost, with passwords pw-alice and so on
  rooms      rooms.localhost; lobby@rooms.localhost belongs to alice
  uploads    files.localhost, http://127.0.0.1:%d/
  window     %s, in %s
  logs       %s, %s
  state      curl -sS --unix-socket %s localhost/v1/admin/state --json '{}'
`, o.port(portC2S), o.port(portHTTP), o.window, d.path("rules.hcl"), prosody.log, sidecar.log, d.path("recall.sock"))
		return nil
	})
}
