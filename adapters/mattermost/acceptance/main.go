// Command acceptance checks Recall for Mattermost against a real server. It builds Mattermost 6.7.2 from the Go
// module proxy, once, starts it on loopback with a PostgreSQL of its own, installs the bundle, and drives it as users
// do, with REST and WebSocket clients. It kills what can be killed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

type options struct {
	data, cache, bundle string
	port                int
	run                 *regexp.Regexp
	json, keep, build   bool
}

func main() {
	var o options
	var only string
	flag.StringVar(&o.data, "data", "",
		"`folder` for the data of server, database and plugin; default: a temporary one, removed at the end")
	flag.StringVar(&o.cache, "cache", "",
		"`folder` in which the server is built and kept; default: in the user's cache folder")
	flag.StringVar(&o.bundle, "bundle", "", "the bundle `file` to install; default: built for this machine")
	flag.IntVar(&o.port, "port", 18070, "`port` of the server on 127.0.0.1; the database has the next one")
	flag.StringVar(&only, "run", "", "run only the scenarios that match this regular `expression`")
	flag.BoolVar(&o.json, "json", false, "print the checks as JSON")
	flag.BoolVar(&o.keep, "keep", false, "after the checks, leave the server running until interrupted")
	flag.BoolVar(&o.build, "build-only", false, "only build the server")
	flag.Parse()
	var err error
	if o.run, err = regexp.Compile(only); err != nil || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failed, err := o.start(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "acceptance:", err)
	}
	if err != nil || failed {
		os.Exit(1)
	}
}

// start builds and starts everything and runs the scenarios.
func (o *options) start(ctx context.Context) (failed bool, err error) {
	server, err := buildServer(ctx, o.cache)
	if err != nil || o.build {
		return false, err
	}
	if o.data == "" {
		if o.data, err = os.MkdirTemp("", "recall-mattermost"); err != nil {
			return false, err
		}
		defer os.RemoveAll(o.data)
	}
	if o.data, err = filepath.Abs(o.data); err != nil {
		return false, err
	}
	if o.bundle == "" {
		o.bundle = filepath.Join(o.data, "bundle.tar.gz")
		say("building the bundle")
		if err := buildBundle(ctx, o.bundle); err != nil {
			return false, err
		}
	}
	db, err := startPostgres(ctx, filepath.Join(o.data, "postgres"), o.port+1)
	if err != nil {
		return false, err
	}
	defer db.stop()
	mm := &mattermost{folder: server, data: o.data, port: o.port, database: db.source("mattermost")}
	defer mm.kill()
	if err := mm.start(ctx); err != nil {
		return false, err
	}
	r := &run{options: o, ctx: ctx, mm: mm, db: db}
	err = r.all()
	failed = r.report()
	if o.keep && ctx.Err() == nil {
		say("the server runs at %s (root, alice, bob, carol, dave, erin: password %s) until interrupted", mm.url(), password)
		<-ctx.Done()
	}
	return failed, err
}

// buildBundle builds the bundle for this machine.
func buildBundle(ctx context.Context, out string) error {
	module, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("go list -m: %w; run this command in its module", err)
	}
	platform, err := exec.CommandContext(ctx, "go", "env", "GOARCH").Output()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "run", "./bundle", "-platforms", "linux/"+firstLine(platform), "-out", out)
	cmd.Dir = firstLine(module)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the bundle: %w\n%s", err, text)
	}
	return nil
}

// say prints what is being done.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// A check is one line of the table.
type check struct {
	Scenario string `json:"scenario"`
	Name     string `json:"name"`
	OK       bool   `json:"ok"`
	Detail   string `json:"detail,omitempty"` // of one that failed
}

// report prints the checks, and tells whether one failed.
func (r *run) report() (failed bool) {
	passed := 0
	for _, c := range r.checks {
		if c.OK {
			passed++
		}
	}
	if r.options.json {
		text, err := json.MarshalIndent(r.checks, "", "  ")
		if err != nil {
			panic(err)
		}
		fmt.Println(string(text))
		return passed < len(r.checks)
	}
	for _, c := range r.checks {
		mark := "ok"
		if !c.OK {
			mark = "FAILED"
		}
		fmt.Printf("%-6s  %-16s  %s\n", mark, c.Scenario, c.Name)
		if c.Detail != "" {
			fmt.Printf("%-6s  %-16s  %s\n", "", "", c.Detail)
		}
	}
	fmt.Printf("%d passed, %d failed\n", passed, len(r.checks)-passed)
	return passed < len(r.checks)
}

var errStopped = errors.New("stopped")

// wait waits for what is to become true, and returns why it did not.
func wait(ctx context.Context, most time.Duration, is func() error) error {
	for end := time.Now().Add(most); ; {
		err := is()
		if err == nil || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return errStopped
		case <-time.After(100 * time.Millisecond):
		}
	}
}
