package journal

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/shared"
)

// childEnv makes the test binary a writer that is killed: it holds the path of an index.
const childEnv = "RECALL_JOURNAL_TEST_CHILD"

const (
	childWriters = 8
	childBatch   = 20
)

// batchID names message i of batch b of a writer in one run of the child.
func batchID(run string, writer, b, i int) string {
	return fmt.Sprintf("%s-%d-%d-%d", run, writer, b, i)
}

// runChild writes until it is killed, and says on stdout which batch of which writer is acknowledged. Every other
// message of a batch is recalled in the same call.
func runChild(path string) {
	l, err := open(context.Background(), path)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	run := os.Getenv(childEnv + "_RUN")
	var out sync.Mutex
	fmt.Println("open")
	for w := range childWriters {
		go func() {
			for b := 0; ; b++ {
				var ops []index.Op
				for i := range childBatch {
					m := message(batchID(run, w, b, i), fmt.Sprint("file", i/2))
					if ops = append(ops, put(m)); i%2 == 1 {
						ops = append(ops, recall("r-"+m.ID, m))
					}
				}
				if _, err := l.Append(context.Background(), ops); err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				out.Lock()
				fmt.Println("ack", w, b)
				out.Unlock()
			}
		}()
	}
	select {}
}

func TestLocal_Killed(t *testing.T) {
	path := t.TempDir()
	sequence := uint64(0)
	for run := range 5 {
		name := fmt.Sprint("run", run)
		acked := killedChild(t, path, name, 20+rand.IntN(200))
		l := openAt(t, path)
		total := 0
		for w := range childWriters {
			for b := 0; ; b++ {
				present := 0
				for i := range childBatch {
					id := batchID(name, w, b, i)
					r, err := l.index.Messages("acme", []string{id})
					if err != nil {
						t.Fatal(err)
					}
					if r[0] == nil {
						continue
					}
					present++
					if recalled := i%2 == 1; recalled != (r[0].Tombstone != nil) {
						t.Fatalf("%s: tombstone %v", id, r[0].Tombstone)
					} else if !recalled {
						continue
					}
					total++
					e, err := l.index.Entry(r[0].Tombstone.Sequence, shared.StepNotify)
					if err != nil || e == nil || e.Event.Message.ID != id {
						t.Fatalf("%s: its event is %+v %v", id, e, err)
					}
				}
				if present == 0 && b > acked[w] {
					break
				}
				if present != childBatch {
					t.Fatalf("batch %d of writer %d (acknowledged up to %d): %d of %d messages are there",
						b, w, acked[w], present, childBatch)
				}
			}
		}
		if got := l.index.Stats().Sequence; got != sequence+uint64(total) {
			t.Fatalf("sequence %d after %d and %d recalls", got, sequence, total)
		}
		sequence = l.index.Stats().Sequence
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killedChild runs the writer until it acknowledged so many batches, kills it, and returns the last acknowledged batch
// of each of its writers, -1 for none.
func killedChild(t *testing.T, path, run string, acks int) (last [childWriters]int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path, childEnv+"_RUN="+run)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for w := range last {
		last[w] = -1
	}
	n := 0
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadString('\n') // what was said before the kill counts too
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var w, b int
		if _, err := fmt.Sscanf(line, "ack %d %d", &w, &b); err != nil {
			if strings.HasPrefix(line, "error") {
				t.Error(line)
			}
			continue
		}
		last[w] = b
		if n++; n == acks {
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait()
	if n < acks {
		t.Fatalf("the child ended after %d batches", n)
	}
	return last
}

func TestOpen_HeldByAnotherProcess(t *testing.T) {
	path := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	drained := make(chan struct{})
	lines := bufio.NewReader(stdout)
	if line, err := lines.ReadString('\n'); line != "open\n" {
		t.Errorf("%q %v", line, err)
	}
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, lines)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err = open(ctx, path)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("held by another process (%d)", cmd.Process.Pid)) {
		t.Errorf("%v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-drained
	_ = cmd.Wait()
	openAt(t, path)
}
