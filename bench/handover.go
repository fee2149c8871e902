package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dgraph-io/badger/v4"
)

const (
	handoverRounds = 5
	handoverWrites = time.Second // for which the first process writes before it hands over
)

// bareTimes are medians in milliseconds, from the moment at which the first process is told to hand over until the
// second has committed something.
type bareTimes struct{ closed, replayed float64 }

// handover measures the best bare handover of the index's own data between two processes that have nothing but Badger:
// once with a clean Close and Open, once with an exit without Close and an Open that replays. The second process is
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

// handoverChild waits for the folder's lock, opens the data, commits once and says "open". Then it writes what the
// callers wrote, at their rate, until it reads how to hand over.
func handoverChild(_ context.Context, args []string) error {
	set := flag.NewFlagSet("handover-child", flag.ContinueOnError)
	folder := set.String("folder", "", "of the data")
	rate := whole(set, "rate", 0, 0, "messages a second; 0: as fast as it goes")
	if err := parse(set, args); err != nil {
		return err
	}
	lock, err := waitForLock(*folder)
	if err != nil {
		return err
	}
	defer lock.Close()
	// A log of no size is what a kill leaves of one that was being made or removed; Badger does not open beside it.
	logs, err := filepath.Glob(filepath.Join(*folder, "*.mem"))
	if err != nil {
		return err
	}
	for _, log := range logs {
		if info, err := os.Stat(log); err == nil && info.Size() == 0 {
			_ = os.Remove(log)
		}
	}
	db, err := badger.OpenManaged(indexOptions(*folder))
	if err != nil {
		return err
	}
	synced, err := openSyncedLog(*folder)
	if err != nil {
		return err
	}
	start, written, ts := time.Now(), 0, db.MaxVersion()
	commit := func(n int) error {
		ts++
		txn := db.NewTransactionAt(ts, true)
		defer txn.Discard()
		records := []record{groupRecord(ts, n)}
		for range n {
			records = append(records, handoverRecords(int64(os.Getpid())<<32+int64(written))...)
			written++
		}
		if err := errors.Join(setAll(txn, records), txn.CommitAt(ts, nil)); err != nil {
			return err
		}
		return synced.sync()
	}
	if err := commit(1); err != nil {
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
				return db.Close()
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
		if err := commit(min(due, 500)); err != nil {
			return err
		}
	}
}

// handoverRecords is what callers of the swap write for a message: the message, of one in recallEvery the recall, and
// what became of its two steps.
func handoverRecords(n int64) []record {
	records := messageRecords(n)
	if n%recallEvery != 0 {
		return records
	}
	return slices.Concat(records, recallRecords(n), outcomeRecords(n, "notify"), outcomeRecords(n, "history"))
}

// waitForLock takes the lock that the index takes, on the folder itself. It is held while the file is open.
func waitForLock(folder string) (*os.File, error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	lock := int(f.Fd())
	for said := false; ; time.Sleep(time.Millisecond) {
		if err := syscall.Flock(lock, syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			return f, nil
		}
		if !said {
			fmt.Println("waiting")
			said = true
		}
	}
}
