package delivery

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/clock/clocktest"
	"github.com/chat-recall/recall/plugin/internal/journal"
	"github.com/chat-recall/recall/shared"
)

// process is an opener over a real index, as one process has it.
type process struct {
	t      *testing.T
	index  *index.Index
	log    *journal.Local
	clock  *clocktest.Fake
	opened chan string // steps that were opened
	stop   func()
}

// startOpener opens the index in a folder and runs an opener over it.
func startOpener(t *testing.T, dir string, clock *clocktest.Fake) *process {
	t.Helper()
	return startLoggingOpener(t, dir, clock, hclog.NewNullLogger())
}

func startLoggingOpener(t *testing.T, dir string, clock *clocktest.Fake, logger hclog.Logger) *process {
	t.Helper()
	x, err := index.Open(t.Context(), index.Options{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	steps := []string{"history", "notify", "wipe"}
	p := &process{t: t, index: x, log: journal.NewLocal(x), clock: clock, opened: make(chan string, 100)}
	o := NewOpener(x, p.log, steps, clock, logger)
	p.log.OnOpen(func(step string, _ uint64) {
		p.opened <- step
		if step == shared.StepNotify {
			o.Recalled()
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	go o.Run(ctx)
	p.stop = sync.OnceFunc(func() {
		cancel()
		o.Wait()
		if err := p.log.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(p.stop)
	return p
}

// recall recalls a message at the time of the clock, and waits until its notify is opened.
func (p *process) recall() {
	p.t.Helper()
	p.recallMany(1, "notify", "history", "wipe")
}

func (p *process) recallMany(n int, steps ...string) {
	p.t.Helper()
	var ops []index.Op
	for i := range n {
		m := shared.Message{
			Tenant: "acme", ID: fmt.Sprint("m", i), Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"},
			Sender: "ann", Type: shared.TypeText, SentAt: p.clock.Now(),
		}
		ops = append(ops, index.Op{Put: &m}, index.Op{Recall: &index.Recall{
			Steps: steps,
			Event: shared.Event{Tenant: "acme", RecallID: "r", Actor: shared.Actor{ID: "ann"}, Role: shared.RoleMember,
				RecalledAt: p.clock.Now(), Message: m, Rule: shared.Rule{Name: "own"}, PolicyDigest: "abc",
				Disposition: shared.DispositionErase},
		}})
	}
	if _, err := p.log.Append(p.t.Context(), ops); err != nil {
		p.t.Fatal(err)
	}
	if step := p.nextOpened(); step != shared.StepNotify {
		p.t.Fatalf("the recall opens %s", step)
	}
}

func (p *process) nextOpened() string {
	p.t.Helper()
	select {
	case step := <-p.opened:
		return step
	case <-time.After(10 * time.Second):
		p.t.Fatal("nothing is opened")
		return ""
	}
}

// gated lists the events whose steps wait for notify.
func (p *process) gated() []uint64 {
	p.t.Helper()
	list, err := p.index.Gated(p.t.Context(), 0, 10)
	if err != nil {
		p.t.Fatal(err)
	}
	return list
}

// opens checks that the other steps are opened after a wait, and not before.
func (p *process) opens(wait time.Duration) {
	p.t.Helper()
	p.clock.WaitArmed(p.clock.Elapsed() + wait)
	p.clock.Advance(wait - 1)
	if n := len(p.gated()); n != 1 {
		p.t.Fatalf("%d recalls wait for notify", n)
	}
	p.clock.Advance(1)
	got := []string{p.nextOpened(), p.nextOpened()}
	if slices.Sort(got); !slices.Equal(got, []string{"history", "wipe"}) || len(p.gated()) > 0 {
		p.t.Errorf("%v are opened, %d recalls wait on", got, len(p.gated()))
	}
}

func TestOpener(t *testing.T) {
	t.Run("opens the others 30 s after the commit", func(t *testing.T) {
		p := startOpener(t, t.TempDir(), clocktest.New())
		p.clock.WaitArmed(NotifyFirst) // for what was there before
		p.clock.Advance(NotifyFirst)
		p.recall()
		p.clock.WaitArmed(p.clock.Elapsed() + NotifyFirst)
		p.clock.Shift(-24 * time.Hour)
		p.opens(NotifyFirst)
	})
	for name, c := range map[string]struct{ jump, wait time.Duration }{
		"counts on after a restart":                     {0, NotifyFirst / 2},
		"begins anew where the clock was set back":      {-time.Hour, NotifyFirst},
		"opens them soon where the clock was set ahead": {40 * 365 * 24 * time.Hour, notifyAgain},
	} {
		t.Run(name, func(t *testing.T) {
			clock, dir := clocktest.New(), t.TempDir()
			p := startOpener(t, dir, clock)
			clock.WaitArmed(NotifyFirst) // for what was there before
			clock.Advance(notifyPart)
			p.recall()
			clock.Advance(NotifyFirst / 2)
			p.stop()
			clock.Shift(c.jump)
			startOpener(t, dir, clock).opens(c.wait)
		})
	}
}

// lines is what a logger writes, a line at a time.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

func TestOpener_MoreThanOneBatch(t *testing.T) {
	log := make(lines, 10)
	p := startLoggingOpener(t, t.TempDir(), clocktest.New(), hclog.New(&hclog.LoggerOptions{Output: log}))
	p.clock.WaitArmed(NotifyFirst) // for what was there before
	p.clock.Advance(NotifyFirst)
	p.recallMany(openAtOnce+1, "notify", "history", "wipe")
	p.clock.WaitArmed(p.clock.Elapsed() + NotifyFirst)
	p.clock.Advance(NotifyFirst)
	for range 2 * 2 { // the steps of each batch
		p.nextOpened()
	}
	if n := len(p.gated()); n > 0 {
		t.Errorf("%d recalls wait on", n)
	}
	if line := <-log; !strings.Contains(line, fmt.Sprintf("recalls=%d after=30s", openAtOnce+1)) {
		t.Errorf("log: %s", line)
	}
	p.stop()
	if len(log) > 0 { // not of the mark for what was there before
		t.Errorf("then %s", <-log)
	}
}

func TestOpener_StepsThatTheHostDoesNotCarryOut(t *testing.T) {
	clock, dir := clocktest.New(), t.TempDir()
	p := startOpener(t, dir, clock)
	p.recallMany(3, "notify", "history", "offline")
	p.stop()
	log := make(lines, 10)
	p = startLoggingOpener(t, dir, clock, hclog.New(&hclog.LoggerOptions{Output: log}))
	if line := <-log; !strings.Contains(line, "step=offline recalls=3") {
		t.Errorf("log: %s", line)
	}
	clock.WaitArmed(clock.Elapsed() + NotifyFirst)
	p.stop()
	if len(log) > 0 {
		t.Errorf("then %s", <-log)
	}
}

func TestAddMark(t *testing.T) {
	first := mark{upTo: 5, began: 10 * time.Second, due: 10*time.Second + NotifyFirst}
	for name, c := range map[string]struct {
		at   time.Duration
		want []mark
	}{
		"within a part of the time": {first.began + notifyPart - 1,
			[]mark{{upTo: 9, began: first.began, due: first.due + notifyPart - 1}}},
		"a part later": {first.began + notifyPart,
			[]mark{first, {upTo: 9, began: first.began + notifyPart, due: first.due + notifyPart}}},
		"before the first, as after a clock was set back": {first.began - time.Hour,
			[]mark{{upTo: 9, began: first.began, due: first.due - time.Hour}}},
	} {
		marks := addMark(nil, first.upTo, first.began)
		if marks = addMark(marks, 9, c.at); !slices.Equal(marks, c.want) {
			t.Errorf("%s: got %v, want %v", name, marks, c.want)
		}
	}
}
