package delivery

import (
	"context"
	"slices"
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
	x, err := index.Open(t.Context(), index.Options{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	steps := []string{"history", "notify", "wipe"}
	p := &process{t: t, index: x, log: journal.NewLocal(x), clock: clock, opened: make(chan string, 100)}
	o := NewOpener(x, p.log, steps, clock, hclog.NewNullLogger())
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
	m := shared.Message{
		Tenant: "acme", ID: "a", Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"},
		Sender: "ann", Type: shared.TypeText, SentAt: p.clock.Now(),
	}
	_, err := p.log.Append(p.t.Context(), []index.Op{{Put: &m}, {Recall: &index.Recall{
		Steps: []string{"notify", "history", "wipe"},
		Event: shared.Event{Tenant: "acme", RecallID: "r", Actor: shared.Actor{ID: "ann"}, Role: shared.RoleMember,
			RecalledAt: p.clock.Now(), Message: m, Rule: shared.Rule{Name: "own"}, PolicyDigest: "abc",
			Disposition: shared.DispositionErase},
	}}})
	if err != nil {
		p.t.Fatal(err)
	}
	if step := <-p.opened; step != shared.StepNotify {
		p.t.Fatalf("the recall opens %s", step)
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
	got := []string{<-p.opened, <-p.opened}
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
