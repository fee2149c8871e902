package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/chat-recall/recall/plugin/internal/service"
)

// Version is what a release is built with: -ldflags "-X main.Version=v1.2.3". Where it is empty the version control
// that Go wrote into the binary says what it is.
var Version = ""

func version() string {
	if Version != "" {
		return Version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

func runVersion(args []string, stdout, stderr io.Writer) int {
	d := service.Describe(version())
	switch {
	case len(args) == 0:
		fmt.Fprintf(stdout, "%s %s\nprotocol versions: %s\nindex format: %d\n",
			d.Name, d.Version, strings.Trim(fmt.Sprint(d.ProtocolVersions), "[]"), d.IndexFormat)
	case len(args) == 1 && (args[0] == "--json" || args[0] == "-json"):
		if err := json.NewEncoder(stdout).Encode(d); err != nil {
			fmt.Fprintf(stderr, "recall-plugin version: %v\n", err)
			return exitFailed
		}
	default:
		fmt.Fprintf(stderr, "recall-plugin version: unknown argument %q; it takes --json or nothing\n", args[len(args)-1])
		return exitUsage
	}
	return exitOK
}
