// Command host-app is a small real chat server that takes messages back through the recall plugin.
//
//	go run ./examples/host-app                         serve on 127.0.0.1:8080
//	go run ./examples/host-app replay FILE.jsonl       run a recorded trace through the server and look for leaks
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
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
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
		return replayCommand(ctx, args[1:], stdout, stderr)
	}
	flags := flag.NewFlagSet("host-app", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:8080", "where to listen; a loopback address")
	data := flags.String("data", "data/host-app", "the folder of the server's data")
	config := flags.String("config", "plugin.hcl", "the configuration of the recall plugin")
	usage := "host-app [flags]    serve; a user has at most 16 streams, all together as many as ulimit -n allows\n       host-app replay     run a recorded trace; host-app replay --help has its flags"
	if err := parse(flags, usage, args, 0, stderr); err != nil {
		return err
	}
	return serve(ctx, *addr, *data, *config, stdout, stderr)
}

// serve runs the server until ctx ends.
func serve(ctx context.Context, addr, data, config string, stdout, stderr io.Writer) error {
	if err := checkLoopback(addr); err != nil {
		return err
	}
	limits, err := limitsOfProcess()
	if err != nil {
		return err
	}
	log := hclog.New(&hclog.LoggerOptions{Name: "host-app", Level: hclog.Info, Output: stderr})
	if err := buildPlugin(ctx, config, log); err != nil {
		return err
	}
	held := new(heldCalls)
	s, plugin, err := open(ctx, data, host.Config{File: config, OnHeld: held.add}, log)
	if err != nil {
		return err
	}
	defer func() {
		if err := s.Close(); err != nil {
			log.Error("close", "error", err)
		}
	}()
	if err := addDemo(ctx, s); err != nil {
		return err
	}
	if err := greet(ctx, s); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen: %w; choose another address with --addr", err)
	}
	a := &api{server: s, plugin: plugin, held: held, limits: limits}
	web := &http.Server{Handler: a.handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
	web.RegisterOnShutdown(s.hub.KickAll)
	printGuide(stdout, listener.Addr().String())
	failed := make(chan error, 1)
	go func() { failed <- web.Serve(limits.listen(listener)) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	log.Info("stopping")
	grace, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = web.Shutdown(grace)
	if err != nil {
		err = errors.Join(fmt.Errorf("requests did not end in time: %w", err), web.Close())
	}
	<-failed
	return err
}

// checkLoopback refuses an address that others can reach: whoever reaches this server is whom they say they are.
func checkLoopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("--addr %s: %w", addr, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("--addr %s: this example has no passwords, so it listens on the loopback interface only; use 127.0.0.1 and a port", addr)
	}
	return nil
}
