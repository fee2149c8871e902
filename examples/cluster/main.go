// Command cluster shows a recall in a cluster: three chat servers, each with its plugin, share a log on three servers
// of NATS JetStream. One page shows a user on each chat server, and has buttons that kill and stop whatever runs.
//
//	go run ./examples/cluster
//
// Everything runs on this machine, on the loopback interface, in a temporary folder that is removed at the end.
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
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == chatServerCommand {
		return runChatServer(ctx, args[1:], stdout, stderr)
	}
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:8090", "where the page listens; a loopback address")
	if err := parse(flags, "cluster [flags]", args, stderr); err != nil {
		return err
	}
	if err := chat.CheckLoopback(*addr); err != nil {
		return err
	}
	return serve(ctx, *addr, stdout)
}

func parse(flags *flag.FlagSet, usage string, args []string, stderr io.Writer) error {
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
	if flags.NArg() != 0 {
		flags.Usage()
		return errUsage
	}
	return nil
}

// chatServerCommand is the command that this program starts itself with.
const chatServerCommand = "chat-server"

// runChatServer runs one chat server, in a process of its own, so that it can be killed.
func runChatServer(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("cluster "+chatServerCommand, flag.ContinueOnError)
	var o chat.Options
	flags.StringVar(&o.Addr, "addr", "", "where to listen; a loopback address")
	flags.StringVar(&o.Data.Folder, "data", "", "the folder that the chat servers share")
	flags.StringVar(&o.Data.Node, "node", "", "the name of this server")
	flags.StringVar(&o.Config, "config", "", "the configuration of the recall plugin")
	flags.StringVar(&o.RunDir, "run", "", "the run directory of the recall plugin")
	flags.StringVar(&o.FramedBy, "framed-by", "", "the origin of the page that shows this server's pages")
	if err := parse(flags, "cluster "+chatServerCommand+" [flags]", args, stderr); err != nil {
		return err
	}
	return chat.Serve(ctx, o, stdout, stderr)
}
