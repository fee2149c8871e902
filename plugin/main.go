// Command recall-plugin decides and records message recalls for a chat server.
package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	commands := map[string]func([]string, io.Writer, io.Writer) int{
		"check": runCheck, "test": runTest, "explain": runExplain, "diff": runDiff, "fmt": runFmt,
	}
	if len(os.Args) > 1 {
		if run, ok := commands[os.Args[1]]; ok {
			os.Exit(run(os.Args[2:], os.Stdout, os.Stderr))
		}
	}
	fmt.Fprintln(os.Stderr, "usage: recall-plugin check|test|explain|diff|fmt")
	os.Exit(2)
}
