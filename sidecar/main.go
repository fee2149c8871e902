// Command recall-sidecar offers the recall plugin to chat servers in any language: plain JSON, Connect, gRPC and
// gRPC-Web over a unix socket or TCP, and the steps of recalls to workers and webhooks.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
)

const (
	exitGood  = 0
	exitBad   = 1 // it failed, or the configuration has errors
	exitUsage = 2 // the command line is wrong
)

const usage = `usage: recall-sidecar [--config sidecar.hcl] [--check]
       recall-sidecar healthcheck [--config sidecar.hcl]
       recall-sidecar export --tenant T [--config sidecar.hcl] [--output recalls.jsonl] [filter]
       recall-sidecar version

recall-sidecar offers the recall plugin to chat servers in any language over a unix socket or TCP: plain JSON,
Connect, gRPC and gRPC-Web. It starts the plugin that plugin_file of sidecar.hcl names. docs/any-language.md
begins with curl.

SIGTERM ends it once the requests under way are answered. SIGHUP makes it read secrets and rules again.

  healthcheck  exits with 0 if the sidecar of this sidecar.hcl answers and its plugin is ready
  export       writes the recalls of a tenant that match a filter, as JSON lines; export -h shows the filters
  version      prints the version

`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "export" {
		return export(args[1:], stdout, stderr)
	}
	command := ""
	if len(args) > 0 && (args[0] == "healthcheck" || args[0] == "version") {
		command, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet("recall-sidecar", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("config", "sidecar.hcl", "path of the configuration")
	check := flags.Bool("check", false, "check the configuration and the files that it names, and exit")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return exitGood
	case err == nil && flags.NArg() > 0:
		err = fmt.Errorf("there is no command or argument %q", flags.Arg(0))
		fallthrough
	case err != nil:
		fmt.Fprintf(stderr, "recall-sidecar: %v\nrecall-sidecar -h shows the usage\n", err)
		return exitUsage
	}
	switch {
	case command == "version":
		fmt.Fprintln(stdout, "recall-sidecar", version())
		return exitGood
	case command == "healthcheck":
		return healthcheck(*file, stdout, stderr)
	case *check:
		return checkConfig(*file, stdout, stderr)
	}
	return serve(*file, stderr)
}

// Version is what a release is built with: -ldflags "-X main.Version=v1.2.3".
var Version = ""

func version() string {
	if Version != "" {
		return Version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
