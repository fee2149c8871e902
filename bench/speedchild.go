package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/chat-recall/recall/shared"
)

// startSpeedChild starts a process that is nothing but a host with callers.
func startSpeedChild(ctx context.Context, config string, work time.Duration) (*bareChild, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "speed-child", "--config", config, "--work", work.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &bareChild{cmd: cmd, out: bufio.NewScanner(out)}, cmd.Start()
}

// speedChild opens a host and has callers index messages. It says when it has worked for a time, and goes on until it
// is killed.
func speedChild(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("speed-child", flag.ContinueOnError)
	config := set.String("config", "", "plugin.hcl")
	work := set.Duration("work", time.Second, "before it says so")
	if err := parse(set, args); err != nil {
		return err
	}
	fmt.Println("opening")
	h, err := openSpeedHost(ctx, *config, func(shared.Event) {})
	if err != nil {
		return err
	}
	defer h.Close()
	fmt.Println("open")
	said := time.AfterFunc(*work, func() { fmt.Println("worked") })
	defer said.Stop()
	ids.Store(50_000_000_000) // beyond those of its parent, and sent in the past all the same
	var all sync.WaitGroup
	defer all.Wait()
	for range 64 {
		all.Go(func() {
			for ctx.Err() == nil {
				if _, err := h.Index(ctx, []shared.Message{speedMessage(ids.Add(1))}); err != nil {
					progress("index: %v", err)
					return
				}
			}
		})
	}
	return nil
}
