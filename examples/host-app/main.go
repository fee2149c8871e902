// Command host-app is a small real chat server that takes messages back through the recall plugin.
//
//	go run ./examples/host-app                         serve on 127.0.0.1:8080
//	go run ./examples/host-app replay FILE.jsonl       run a recorded trace through the server and look for leaks
//
// The chat is in the package chat, the replay tool in the package replay.
//
// A user has at most 16 streams: the newest ones. All users together have as many as the limit of open files allows
// (ulimit -n), with room kept for requests and the plugin; one more is answered 503.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/chat-recall/recall/examples/host-app/chat"
	"github.com/chat-recall/recall/examples/host-app/replay"
)

// errUsage is for a command line that was already explained.
var errUsage = errors.New("wrong usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "host-app:", err)
		os.Exit(1)
	}
}

// parse reads the flags of a command, and its arguments, of which there are so many.
func parse(flags *flag.FlagSet, usage string, args []string, arguments int, stderr io.Writer) error {
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: "+usage)
		flags.PrintDefaults()
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return errUsage
	}
	if flags.NArg() != arguments {
		flags.Usage()
		return errUsage
	}
	return nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == "replay" {
		return runReplay(ctx, args[1:], stdout, stderr)
	}
	flags := flag.NewFlagSet("host-app", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:8080", "where to listen; a loopback address")
	data := flags.String("data", "data/host-app", "the folder of the server's data")
	config := flags.String("config", "plugin.hcl", "the configuration of the recall plugin")
	usage := "host-app [flags]    serve; a user has at most 16 streams, all together as many as ulimit -n allows\n" +
		"       host-app replay     run a recorded trace; host-app replay --help has its flags"
	if err := parse(flags, usage, args, 0, stderr); err != nil {
		return err
	}
	return chat.Serve(ctx, chat.Options{Addr: *addr, Data: chat.Data{Folder: *data}, Config: *config}, stdout, stderr)
}

// runReplay is the command "replay".
func runReplay(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("host-app replay", flag.ContinueOnError)
	var o replay.Options
	flags.BoolVar(&o.JSON, "json", false, "print the counts as one JSON object")
	flags.StringVar(&o.Data, "data", "", "an empty folder to keep the data in; otherwise it goes to a temporary one")
	flags.StringVar(&o.Config, "config", "plugin.hcl", "the configuration that names the plugin's binary")
	usage := "host-app replay [flags] FILE    (JSON lines, plain or gzipped)\n\n" + replay.TraceHelp
	if err := parse(flags, usage, args, 1, stderr); err != nil {
		return err
	}
	o.Trace = flags.Arg(0)
	return replay.Run(ctx, o, stdout, stderr)
}
