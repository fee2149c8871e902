package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/shared"
)

// The bounds of docs/operating.md, section "The process".
const (
	pluginBound = 400 << 20 // under the host of this SDK
	pluginMost  = 576 << 20 // under a host that keeps to no limit
	hostBound   = 256 << 20 // without what callers hold
)

const (
	sampleEvery = 100 * time.Millisecond
	largeBytes  = 1 << 20 // about, of the Index call of a large caller
	seeded      = 200     // messages of the largest size, of which half are recalled, for reads to find
)

// pressureBench loads plugin and host with more than they have memory for, and then sets a hostile host on a plugin
// and a hostile plugin on a host.
func pressureBench(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("pressure", flag.ContinueOnError)
	large := whole(set, "large", 1000, 1, "callers with calls of about 1 MB")
	small := whole(set, "small", 10_000, 1, "callers with small calls")
	seconds := whole(set, "seconds", 10, 1, "how long each of the four parts takes, about")
	verbose := set.Bool("verbose", false, "print the log of plugins and hosts")
	asJSON := set.Bool("json", false, "print one JSON object")
	if err := parse(set, args); err != nil {
		return err
	}
	dir, config, remove, err := workplace()
	if err != nil {
		return err
	}
	defer remove()
	p := &pressure{
		dir: dir, config: config, time: time.Duration(*seconds) * time.Second, verbose: *verbose, j: newJournal(),
	}
	start := time.Now()
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{
		{
			fmt.Sprintf("%d callers with calls of 1 MB, and the largest reads", *large),
			func(ctx context.Context) error { return p.load(ctx, "large", *large) },
		},
		{
			fmt.Sprintf("%d callers with small calls", *small),
			func(ctx context.Context) error { return p.load(ctx, "small", *small) },
		},
		{"a hostile host", p.hostileHost},
		{"a hostile plugin", p.hostilePlugin},
	} {
		progress("%s", part.name)
		if err := part.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	h, err := openFilled(ctx, dir, config, p.j, 0)
	if err != nil {
		return err
	}
	defer h.Close()
	f, err := p.j.verify(ctx, h)
	if err != nil {
		return err
	}
	over := p.plugin > pluginBound || p.host > hostBound || p.attackedPlugin > pluginMost || p.attackedHost > hostBound
	mib := func(bytes int64) int64 { return bytes >> 20 }
	result(*asJSON, []figure{
		{"plugin_anon_max_mib", mib(p.plugin)}, {"plugin_bound_mib", mib(pluginBound)},
		{"host_anon_max_mib", mib(p.host)}, {"host_bound_mib", mib(hostBound)},
		{"attacked_plugin_anon_max_mib", mib(p.attackedPlugin)}, {"attacked_plugin_bound_mib", mib(pluginMost)},
		{"attacked_host_anon_max_mib", mib(p.attackedHost)},
		{"calls", p.answered}, {"overloaded", p.overloaded}, {"hostile_calls", p.hostile},
		{"failed", p.j.failures + p.j.wrongAnswers},
		{"kills", p.kills}, {"acknowledged", len(p.j.messages) + len(p.j.recalls)}, {"lost", f.lost},
		{"applied_twice", f.appliedTwice},
		{"events_lost", f.eventsLost}, {"seconds", int(time.Since(start).Seconds())},
	})
	if over || p.kills > 0 {
		return errBad
	}
	return p.j.verdict(f)
}

type pressure struct {
	dir, config string
	time        time.Duration
	verbose     bool
	j           *journal

	plugin, host                 int64 // most anonymous memory, bytes
	attackedPlugin, attackedHost int64 // likewise, of those with a hostile peer
	answered, overloaded         int
	hostile                      int64 // calls of the hostile host
	kills                        int
}

// peak samples the anonymous memory of a process until stop is called, which returns the most.
func peak(pid func() int) (stop func() int64) {
	var most int64
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				if now, _, err := memory(pid()); err == nil { // it may just have ended
					most = max(most, now)
				}
			}
		}
	}()
	return func() int64 {
		close(end)
		<-done
		return most
	}
}

// load runs a host with callers in a process of its own, whose memory is then its own.
func (p *pressure) load(ctx context.Context, kind string, callers int) error {
	child, lines, err := p.child(ctx, "--config", p.config, "--kind", kind, "--callers", fmt.Sprint(callers),
		"--for", p.time.String())
	if err != nil {
		return err
	}
	var plugin atomic.Int64
	stopHost := peak(func() int { return child.Process.Pid })
	stopPlugin := peak(func() int { return int(plugin.Load()) })
	ended := false
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "plugin":
			if pid, err := strconv.ParseInt(rest, 10, 64); err == nil {
				plugin.Store(pid)
			}
		case "indexed":
			p.j.indexed(rest)
		case "recalled":
			id, recallID, _ := strings.Cut(rest, " ")
			p.j.recalled(id, recallID)
		case "ran":
			p.j.ran(rest)
		case "failed":
			p.j.failed("call", rest, nil)
		case "end":
			var t tally
			if err := json.Unmarshal([]byte(rest), &t); err != nil {
				return err
			}
			p.answered, p.overloaded, p.kills = p.answered+t.Answered, p.overloaded+t.Overloaded, p.kills+t.Restarts
			for _, s := range t.Errors {
				progress("the plugin was replaced: %s", s)
			}
			ended = true
		}
	}
	host, pluginMost := stopHost(), stopPlugin()
	progress("plugin %d MiB, host %d MiB at most", pluginMost>>20, host>>20)
	p.host, p.plugin = max(p.host, host), max(p.plugin, pluginMost)
	if err := child.Wait(); err != nil || !ended {
		return fmt.Errorf("the host ended early: %v, %v", err, lines.Err())
	}
	return nil
}

func (p *pressure) child(ctx context.Context, args ...string) (*exec.Cmd, *bufio.Scanner, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	if p.verbose {
		args = append(args, "--verbose")
	}
	child := exec.CommandContext(ctx, self, append([]string{"pressure-child"}, args...)...)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	return child, lines, child.Start()
}

// tally is what a pressure-child says last.
type tally struct {
	Answered, Overloaded, Restarts int
	Errors                         []string // why plugins were replaced
}

// pressureChild is a host whose callers say on stdout what was acknowledged.
func pressureChild(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("pressure-child", flag.ContinueOnError)
	config := set.String("config", "", "plugin.hcl")
	kind := set.String("kind", "", "large, small, or hostile for a host whose plugin is")
	callers := whole(set, "callers", 1, 1, "goroutines")
	duration := set.Duration("for", time.Second, "how long")
	verbose := set.Bool("verbose", false, "print the log")
	if err := parse(set, args); err != nil {
		return err
	}
	c := &presser{kind: *kind}
	level := hclog.Error
	switch {
	case *verbose:
		level = hclog.Debug
	case *kind == "hostile": // it has much to say
		level = hclog.Off
	}
	steps := newJournal().steps()
	steps[shared.StepNotify] = host.Step{Run: func(_ context.Context, e shared.Delivery) (shared.Outcome, error) {
		c.note.say("ran " + e.Message.ID)
		return shared.OutcomeDone, nil
	}}
	var seen sync.Map
	h, err := host.Open(ctx, host.Config{
		File: *config, RunDir: filepath.Dir(*config), Steps: steps,
		Logger: hclog.New(&hclog.LoggerOptions{Level: level, Output: os.Stderr}),
		OnState: func(s host.State) {
			if s.PID > 0 {
				c.note.say(fmt.Sprintf("plugin %d", s.PID))
			}
			if s.Error != "" {
				seen.Store(s.Error, true)
			}
		},
	})
	if err != nil {
		return err
	}
	defer h.Close()
	if err := c.seed(ctx, h); err != nil {
		return err
	}
	working, stop := context.WithTimeout(ctx, *duration)
	defer stop()
	var all sync.WaitGroup
	for n := range *callers {
		all.Go(func() {
			for i := 0; working.Err() == nil; i++ {
				c.call(working, h, n, i)
			}
		})
	}
	all.Wait()
	end := tally{Answered: int(c.answered.Load()), Overloaded: int(c.overloaded.Load()), Restarts: h.State().Restarts}
	seen.Range(func(text, _ any) bool {
		end.Errors = append(end.Errors, text.(string))
		return true
	})
	text, err := json.Marshal(end)
	if err != nil {
		return err
	}
	c.note.say("end " + string(text))
	return nil
}

// presser makes the calls of a pressure-child.
type presser struct {
	kind                 string
	note                 stdout
	answered, overloaded atomic.Int64
}

// largest are as many and as long attachments as a message may have, 200 KiB. All messages share them, so that
// callers have no memory of their own to speak of.
var largest = func() []shared.Attachment {
	list := make([]shared.Attachment, shared.MaxAttachments)
	for i := range list {
		list[i].Key = fmt.Sprintf("%03d-%s", i, strings.Repeat("x", shared.MaxAttachmentBytes-4))
	}
	return list
}()

func largeMessage(id string) shared.Message {
	m := message(id)
	m.Attachments = largest
	return m
}

func largeBatch(id string) []shared.Message {
	var batch []shared.Message
	for i := range largeBytes / (shared.MaxAttachments * shared.MaxAttachmentBytes) {
		batch = append(batch, largeMessage(fmt.Sprintf("%s-%d", id, i)))
	}
	return batch
}

// seedRoom is the conversation of what is there for reads alone.
var seedRoom = shared.Conversation{Type: shared.ConversationGroup, ID: "seed"}

func seedID(i int) string { return fmt.Sprintf("seed-%d", i) }

// seed gives the largest reads something to find.
func (c *presser) seed(ctx context.Context, h *host.Host) error {
	if c.kind != "large" {
		return nil
	}
	for i := range seeded {
		m := largeMessage(seedID(i))
		m.Conversation = seedRoom
		if _, err := h.Index(ctx, []shared.Message{m}); err != nil {
			return err
		}
		if i%2 == 0 {
			continue
		}
		_, err := h.Recall(ctx, shared.RecallRequest{
			Tenant: tenant, Targets: targets(seedRoom, seedID(i)), Actor: shared.Actor{ID: "sender-1"}, RecallID: "recall-seed",
			Ext: strings.Repeat("e", shared.MaxExtBytes), Reason: strings.Repeat("r", shared.MaxReasonBytes),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// call makes one call of a caller. The end of ctx cuts it off, and then it counts for nothing but what was
// acknowledged.
func (c *presser) call(ctx context.Context, h *host.Host, caller, n int) {
	name, do := c.pick(ctx, h, caller, n)
	switch err := do(); {
	case err == nil:
		c.answered.Add(1)
	case ctx.Err() != nil:
	case errors.Is(err, shared.ErrOverloaded):
		c.overloaded.Add(1)
		time.Sleep(50*time.Millisecond + rand.N(50*time.Millisecond))
	default:
		c.note.failed(name, fmt.Sprintf("%d-%d", caller, n), err)
	}
}

func (c *presser) pick(ctx context.Context, h *host.Host, caller, n int) (name string, do func() error) {
	id := fmt.Sprintf("%s-%d-%d", c.kind, caller, n)
	batch := []shared.Message{message(id)}
	if c.kind == "large" {
		switch caller % 8 {
		case 0:
			return "status", func() error {
				_, err := h.Status(ctx, tenant, seedIDs(shared.MaxStatusIDs))
				return err
			}
		case 1:
			return "since", func() error {
				_, err := h.Since(ctx, shared.SinceRequest{Tenant: tenant, Conversations: []shared.Conversation{seedRoom}})
				return err
			}
		case 2:
			return "ledger", func() error {
				_, err := h.Ledger(ctx, shared.LedgerRequest{Tenant: tenant, RecallID: "recall-seed"})
				return err
			}
		case 3:
			request := shared.RecallRequest{
				Tenant:   tenant,
				Targets:  targets(seedRoom, seedIDs(min(seeded, shared.MaxRecallTargets))...),
				Actor:    shared.Actor{ID: "sender-1"},
				RecallID: "recall-" + id,
				Ext:      strings.Repeat("e", shared.MaxExtBytes),
			}
			return "check", func() error { _, err := h.Check(ctx, request); return err }
		}
		batch = largeBatch(id)
	}
	return "index", func() error { return c.indexAndRecall(ctx, h, batch, n%recallEvery == 0) }
}

func seedIDs(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = seedID(i % seeded)
	}
	return ids
}

// targets are messages of one conversation.
func targets(c shared.Conversation, ids ...string) []shared.Target {
	list := make([]shared.Target, len(ids))
	for i, id := range ids {
		list[i] = shared.Target{MessageID: id, Conversation: c}
	}
	return list
}

// indexAndRecall indexes messages, and takes them back by one call.
func (c *presser) indexAndRecall(ctx context.Context, h *host.Host, batch []shared.Message, takeBack bool) error {
	indexed, err := h.Index(ctx, batch)
	if err != nil {
		return err
	}
	request := shared.RecallRequest{Tenant: tenant, Actor: shared.Actor{ID: "sender-1"}}
	for _, r := range indexed {
		if r.Status != shared.IndexAdded && r.Status != shared.IndexUnchanged {
			return fmt.Errorf("message %s is %s", r.MessageID, r.Status)
		}
		c.note.indexed(r.MessageID)
	}
	if !takeBack {
		return nil
	}
	for _, m := range batch {
		id, one := m.ID, request
		one.Targets, one.RecallID = targets(m.Conversation, id), "recall-"+id
		recalled, err := h.Recall(ctx, one)
		if err != nil {
			return err
		}
		if recalled[0].Status != shared.StatusRecalled {
			return fmt.Errorf("the recall of %s is answered %s", id, recalled[0].Status)
		}
		c.note.recalled(id, one.RecallID)
	}
	return nil
}
