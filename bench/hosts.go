package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/shared"
)

// hostsBench kills a host, which takes its plugin along, again and again while callers in it work. What was
// acknowledged in a host before it died is held against what the last one finds.
func hostsBench(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("hosts", flag.ContinueOnError)
	kills := whole(set, "kills", 10, 1, "how often the host gets SIGKILL")
	callers := whole(set, "callers", 32, 1, "goroutines in the host that index and recall throughout")
	messages := whole(set, "messages", 0, 0, "messages indexed before")
	asJSON := set.Bool("json", false, "print one JSON object")
	if err := parse(set, args); err != nil {
		return err
	}
	dir, config, remove, err := workplace()
	if err != nil {
		return err
	}
	defer remove()
	j := newJournal()
	start := time.Now()
	if *messages > 0 {
		h, err := openFilled(ctx, dir, config, j, *messages)
		if err != nil {
			return err
		}
		if err := h.Close(); err != nil {
			return err
		}
	}
	var opened []time.Duration
	for k := range *kills {
		took, err := hostOnce(ctx, j, config, fmt.Sprintf("host%d", k), *callers, nil)
		if err != nil {
			return fmt.Errorf("host %d: %w", k+1, err)
		}
		opened = append(opened, took)
		progress("%d of %d kills, %d calls, open after %s", k+1, *kills, j.count(), took.Round(time.Millisecond))
	}
	h, err := openFilled(ctx, dir, config, j, 0)
	if err != nil {
		return err
	}
	defer h.Close()
	f, err := j.verify(ctx, h)
	if err != nil {
		return err
	}
	figures := append([]figure{{"kills", *kills}, {"messages", *messages}}, j.figures(f)...)
	figures = append(figures, figure{"open_p50_ms", milliseconds(quantile(opened, 0.5))},
		figure{"open_max_ms", milliseconds(quantile(opened, 1))},
		figure{"seconds", int(time.Since(start).Seconds())})
	result(*asJSON, figures)
	return j.verdict(f)
}

// hostOnce starts a host, lets its callers work, kills it and takes what it had said into the journal. before, if not
// nil, is called before it is killed, and from then on calls may fail. It returns how long the host took to open, the
// wait for what the one before it left included.
func hostOnce(
	ctx context.Context,
	j *journal,
	config, prefix string,
	callers int,
	before func() error,
) (time.Duration, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	child := exec.CommandContext(
		ctx,
		self,
		"hosts-child",
		"--config",
		config,
		"--prefix",
		prefix,
		"--callers",
		fmt.Sprint(callers),
	)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := child.Start(); err != nil {
		return 0, err
	}
	var ending atomic.Bool
	read := func(line string) {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "indexed":
			j.indexed(rest)
		case "recalled":
			id, recallID, _ := strings.Cut(rest, " ")
			j.recalled(id, recallID)
		case "ran":
			j.ran(rest)
		case "failed":
			if !ending.Load() { // what was asked for beside a dead disk may fail
				j.failed("call", rest, nil)
			}
		case "wrong":
			j.wrong("call", rest, "")
		}
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "open" {
		read(lines.Text()) // a step of an earlier recall runs before Open returns
	}
	if lines.Text() != "open" {
		return 0, fmt.Errorf("the host did not open: %v; see its stderr above", child.Wait())
	}
	took := time.Since(start)
	beforeErr := make(chan error, 1)
	killer := time.AfterFunc(between+rand.N(4*between), func() {
		if before != nil {
			ending.Store(true)
			beforeErr <- before()
		}
		close(beforeErr)
		_ = child.Process.Kill()
	})
	defer killer.Stop()
	for lines.Scan() {
		read(lines.Text())
	}
	_ = child.Wait() // it is killed; how it ended is in its state
	if child.ProcessState.Exited() {
		return took, fmt.Errorf("the host ended before it was killed (%s): see its stderr above", child.ProcessState)
	}
	return took, errors.Join(lines.Err(), <-beforeErr)
}

// hostsChild is a host whose callers say on stdout, line by line, what was acknowledged. It works until it is killed.
func hostsChild(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("hosts-child", flag.ContinueOnError)
	config := set.String("config", "", "plugin.hcl")
	prefix := set.String("prefix", "", "of the ids")
	callers := whole(set, "callers", 1, 1, "goroutines")
	if err := parse(set, args); err != nil {
		return err
	}
	var note stdout
	steps := newJournal().steps()
	steps[shared.StepNotify] = host.Step{Run: func(_ context.Context, e shared.Delivery) (shared.Outcome, error) {
		note.say("ran " + e.Message.ID)
		return shared.OutcomeDone, nil
	}}
	h, err := host.Open(ctx, host.Config{File: *config, RunDir: filepath.Dir(*config), Steps: steps})
	if err != nil {
		return err
	}
	defer h.Close()
	note.say("open")
	drive(ctx, h, &note, *prefix, *callers, 0)
	return nil
}

// stdout is a recorder that another process reads. A line is written whole, by one write, or not at all.
type stdout struct{ mu sync.Mutex }

func (s *stdout) say(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Println(line)
}

func (s *stdout) indexed(id string)            { s.say("indexed " + id) }
func (s *stdout) recalled(id, recallID string) { s.say("recalled " + id + " " + recallID) }
func (s *stdout) failed(call, id string, err error) {
	s.say(fmt.Sprintf("failed %s %s %v", call, id, err))
}
func (s *stdout) wrong(call, id, answer string) {
	s.say(fmt.Sprintf("wrong %s %s %s", call, id, answer))
}
