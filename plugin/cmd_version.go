package main

import (
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/chat-recall/recall/plugin/internal/engine"
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
	t := newTool("version", "[--json]",
		"Prints the versions of this binary, of the protocol that it serves, and of the index that it reads.", stdout, stderr)
	extra, code, done := t.parse(args)
	if done {
		return code
	}
	if len(extra) > 0 {
		return t.wrongUsage(fmt.Sprintf("it takes no argument %q", extra[0]))
	}
	d := engine.Describe(version())
	t.print(d, fmt.Sprintf("%s %s\nprotocol versions: %s\nindex format: %d\n",
		d.Name, d.Version, strings.Trim(fmt.Sprint(d.ProtocolVersions), "[]"), d.IndexFormat))
	return exitGood
}
