package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/chat-recall/recall/shared"
)

// sizeFigures are what calls cost with so many messages in the index.
type sizeFigures struct {
	messages int64
	p50      map[string]float64
}

var sizeLooks = []string{"index", "check", "recall"}

// A largeIndex is a chat with many messages, and what is found out once while it is filled.
type largeIndex struct {
	*chat
	look time.Duration // how long a load runs

	sizes             []sizeFigures
	anonymous, mapped int64   // most memory of the plugin, bytes
	hostAnonymous     int64   // of a process that is nothing but the SDK and its callers
	diskBytes         float64 // a message, after compaction
	coldClean         time.Duration
	coldKilled        time.Duration
	restarts          int
}

// start fills the index, compacts it and opens it cold, twice.
func (l *largeIndex) start(ctx context.Context) error {
	if err := l.begin(ctx); err != nil {
		return err
	}
	if err := l.grow(ctx); err != nil {
		return errors.Join(err, l.close())
	}
	l.lookAtMemory()
	l.restarts = l.host.State().Restarts
	if err := l.host.Close(); err != nil {
		return err
	}
	bytes, err := compact(l.folder())
	if err != nil {
		return err
	}
	l.diskBytes = float64(bytes) / float64(l.written.Load())
	return l.coldStarts(ctx)
}

// grow fills the index, and looks at what calls cost each time that it is ten times as large.
func (l *largeIndex) grow(ctx context.Context) error {
	var sizes []int64
	for size := l.size; size >= 1000; size /= 10 {
		sizes = append([]int64{size}, sizes...)
	}
	looks := map[string]*load{
		"index": l.index(1, 1), "check": l.check(1), "recall": l.recall(1, int(maxRecalls*l.look.Seconds()), true),
	}
	all := l.dataset
	defer func() { l.dataset = all }()
	from := int64(0)
	for _, size := range sizes {
		if err := l.fill(ctx, from, size); err != nil {
			return err
		}
		from, l.dataset.size = size, size
		f := sizeFigures{size, map[string]float64{}}
		for _, name := range sizeLooks {
			s, err := looks[name].run(ctx, l.look)
			if err != nil {
				return err
			}
			f.p50[name] = s.P50
		}
		l.sizes = append(l.sizes, f)
	}
	return nil
}

// renew keeps the index: to fill it takes minutes, and it grows little beside its size. It is called between runs, and
// looks at the memory.
func (l *largeIndex) renew(context.Context) error {
	l.lookAtMemory()
	return nil
}

func (l *largeIndex) lookAtMemory() {
	if anonymous, mapped, err := memory(l.host.State().PID); err == nil { // it may just be restarted
		l.anonymous, l.mapped = max(l.anonymous, anonymous), max(l.mapped, mapped)
	}
}

// coldStarts opens the index in a host of its own, has it work and kills it, then opens it here.
func (l *largeIndex) coldStarts(ctx context.Context) error {
	child, err := startSpeedChild(ctx, l.config(), max(4*l.look, time.Second))
	if err != nil {
		return err
	}
	defer child.end()
	if err := child.expect("opening"); err != nil {
		return err
	}
	start := time.Now()
	if err := child.expect("open"); err != nil {
		return err
	}
	l.coldClean = time.Since(start)
	if err := child.expect("worked"); err != nil {
		return err
	}
	if l.hostAnonymous, _, err = memory(child.cmd.Process.Pid); err != nil {
		return err
	}
	child.end() // with its plugin, while callers work
	start = time.Now()
	if err := l.open(ctx); err != nil {
		return err
	}
	l.coldKilled = time.Since(start)
	return nil
}

// largeRows are the names of the rows that are found out while the index is filled.
var largeRows = []string{"memory_plugin", "memory_host", "disk_bytes", "cold_start", "cold_start_killed"}

// rows are those that are found out while the index is filled.
func (l *largeIndex) rows() []row {
	const mib = 1 << 20
	anonymous := fmt.Sprintf("anonymous memory of the plugin with %s messages / the most allowed; "+
		"mapped files besides: %d MiB", number(float64(l.size)), l.mapped/mib)
	return []row{
		single("memory_plugin", "MiB", anonymous, float64(l.anonymous)/mib, 256),
		single("memory_host", "MiB", "anonymous memory of a host that has 64 callers and nothing else / the most allowed",
			float64(l.hostAnonymous)/mib, 32),
		single("disk_bytes", "bytes/msg", "tables after compaction / the most allowed", l.diskBytes, 90),
		single("cold_start", "s", "host.Open after a clean end / the most allowed", l.coldClean.Seconds(), 1),
		single("cold_start_killed", "s", "host.Open after SIGKILL under load / the most allowed", l.coldKilled.Seconds(), 3),
	}
}

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

// speedChild opens a host and has callers index messages. It prints "worked" after a while, and goes on until it is
// killed.
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
				if _, err := h.Index(ctx, newMessages(1)); err != nil {
					progress("index: %v", err)
					return
				}
			}
		})
	}
	return nil
}
