package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/chat-recall/recall/internal/badgerdir"
	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/shared"
)

const (
	handoverRounds = 5
	handoverWrites = time.Second // for which the first process writes before it hands over
)

// bareTimes are medians in milliseconds, from the moment at which the first process is told to hand over until the
// second has committed something.
type bareTimes struct{ closed, replayed float64 }

// handover measures the bare handover of the data between two processes that have nothing but the index: no calls, no
// rules, no delivery. It hands over once with a clean Close and Open, and once with an exit without Close and an Open
// that replays. The second process is
// running already and waits for the lock, as a standby does. It works on a copy of the folder.
func handover(ctx context.Context, folder string, rate int) (bareTimes, error) {
	work, err := os.MkdirTemp(filepath.Dir(folder), "handover")
	if err != nil {
		return bareTimes{}, err
	}
	defer os.RemoveAll(work)
	if err := os.CopyFS(filepath.Join(work, "index"), os.DirFS(folder)); err != nil {
		return bareTimes{}, err
	}
	var closed, replayed []time.Duration
	for round := range handoverRounds { // the two ways in turn, so that both meet the same machine
		for _, way := range []string{"close", "exit"} {
			took, err := handoverOnce(ctx, filepath.Join(work, "index"), way, rate)
			if err != nil {
				return bareTimes{}, fmt.Errorf("bare handover by %s: %w", way, err)
			}
			if way == "close" {
				closed = append(closed, took)
			} else {
				replayed = append(replayed, took)
			}
		}
		progress("bare handover %d of %d: %.1f ms by close, %.1f ms by exit", round+1, handoverRounds,
			milliseconds(closed[round]), milliseconds(replayed[round]))
	}
	slices.Sort(closed)
	slices.Sort(replayed)
	return bareTimes{closed: milliseconds(closed[len(closed)/2]), replayed: milliseconds(replayed[len(replayed)/2])}, nil
}

func handoverOnce(ctx context.Context, folder, way string, rate int) (time.Duration, error) {
	first, err := startChild(ctx, folder, rate)
	if err != nil {
		return 0, err
	}
	defer first.end()
	if err := first.expect("open"); err != nil {
		return 0, err
	}
	time.Sleep(handoverWrites)
	second, err := startChild(ctx, folder, rate)
	if err != nil {
		return 0, err
	}
	defer second.end()
	if err := second.expect("waiting"); err != nil {
		return 0, err
	}
	start := time.Now()
	if _, err := fmt.Fprintln(first.in, way); err != nil {
		return 0, err
	}
	if err := second.expect("open"); err != nil {
		return 0, err
	}
	return time.Since(start), nil
}

type bareChild struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startChild(ctx context.Context, folder string, rate int) (*bareChild, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "handover-child", "--folder", folder, "--rate", fmt.Sprint(rate))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &bareChild{cmd, in, bufio.NewScanner(out)}, cmd.Start()
}

// expect reads lines until the one it waits for.
func (c *bareChild) expect(word string) error {
	for c.out.Scan() {
		if c.out.Text() == word {
			return nil
		}
	}
	return fmt.Errorf("the child ended before it was %s", word)
}

func (c *bareChild) end() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// handoverChild opens the index, which waits for its lock, applies one entry and says "open". Then it writes what the
// callers of a swap write, at their rate, until it reads how to hand over.
func handoverChild(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("handover-child", flag.ContinueOnError)
	folder := set.String("folder", "", "of the data")
	rate := whole(set, "rate", 0, 0, "messages a second; 0: as fast as it goes")
	if err := parse(set, args); err != nil {
		return err
	}
	if badgerdir.Held(*folder) {
		fmt.Println("waiting")
	}
	x, err := index.Open(ctx, index.Options{Path: *folder})
	if err != nil {
		return err
	}
	start, written, settled := time.Now(), 0, x.LastSequence()
	apply := func(n int) error {
		var calls [][]index.Op
		for ; settled < x.LastSequence(); settled++ { // of the recalls of the entry before
			calls = append(calls, settlement(settled+1, shared.StepNotify), settlement(settled+1, shared.StepHistory))
		}
		for range n {
			calls = append(calls, handoverCall(int64(os.Getpid())<<32+int64(written)))
			written++
		}
		_, err := x.Apply(calls)
		x.ZeroAhead()
		return err
	}
	if err := apply(1); err != nil {
		return err
	}
	fmt.Println("open")
	told := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		told <- strings.TrimSpace(line)
	}()
	for {
		select {
		case way := <-told:
			if way == "close" {
				return x.Close()
			}
			os.Exit(0)
		default:
		}
		due := 32
		if rate := *rate; rate > 0 {
			if due = int(time.Since(start).Seconds()*float64(rate)) - written; due <= 0 {
				time.Sleep(time.Millisecond)
				continue
			}
		}
		if err := apply(min(due, 500)); err != nil {
			return err
		}
	}
}

// handoverCall is a call of a caller of the swap: a message, and of one in recallEvery the recall.
func handoverCall(n int64) []index.Op {
	m := speedMessage(n)
	ops := []index.Op{{Put: &m}}
	if n%recallEvery == 0 {
		ops = append(ops, index.Op{Recall: recallOf(m, n)})
	}
	return ops
}

// settlement is the call that settles a step of a recall.
func settlement(sequence uint64, step string) []index.Op {
	return []index.Op{{Settle: &index.Settle{Sequence: sequence, Step: step, Outcome: shared.OutcomeDone, At: time.Now()}}}
}
