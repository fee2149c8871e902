package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// upgrade: a new bundle is uploaded over the one that runs.
func (r *run) upgrade() {
	before := must(r.alice.post(post{ChannelID: r.town, Message: r.doomed()}))
	recalled := must(r.alice.post(post{ChannelID: r.town, Message: r.doomed()}))
	id := r.recallNow(r.alice, recalled).RecallID
	pid := must(r.pluginState(r.root)).PID
	status, text, err := r.root.uploadBundle(r.options.bundle)
	r.check(err == nil && status == 201, "the bundle is uploaded again", status, text, err)
	meanwhile := must(r.alice.post(post{ChannelID: r.town, Message: r.doomed()}))
	r.becomes("it runs anew", func() error { return r.runsAnew(pid) })
	r.check(r.settled(r.alice, id) == nil, "it knows the recalls of before")
	for _, p := range []post{before, meanwhile} {
		r.recallNow(r.alice, p)
	}
	r.check(true, "it recalls what was sent before and meanwhile")
}

// changedBinary: a recall-plugin that somebody changed on disk does not start.
func (r *run) changedBinary() {
	file := filepath.Join(r.mm.pluginDir(), pluginID, "server", "recall-plugin-linux-"+runtime.GOARCH)
	content := must(os.ReadFile(file))
	r.disable()
	try(os.WriteFile(file, append(slices.Clone(content), 'x'), 0o755))
	try(r.root.do("POST", "/api/v4/plugins/"+pluginID+"/enable", nil, nil))
	r.becomes("the log names the checksum", func() error {
		log := must(os.ReadFile(r.mm.logFile()))
		if !bytes.Contains(log, []byte("another SHA-256 than configured")) {
			return errors.New("no such line")
		}
		return nil
	})
	_, _, err := r.alice.since(r.town, "")
	r.check(statusOf(err) == 503, "calls are answered with 503", err)
	s, err := r.pluginState(r.root)
	r.check(err == nil && s.Phase == "failed" && strings.Contains(s.Error, "SHA-256"), "the state says why", s, err)
	try(os.WriteFile(file, content, 0o755))
	r.becomes("with the right one it runs by itself", r.running)
}

// kills: of every process, under load. What was answered "recalled" is gone in the end.
func (r *run) kills() {
	load := r.startLoad()
	phase := func(name string, kill func(), back func() error) {
		try(wait(r.ctx, soon, load.progress(loadStep)))
		kill()
		err := wait(r.ctx, 3*time.Minute, back)
		r.check(err == nil, name+" is killed and comes back", err)
		try(wait(r.ctx, soon, load.progress(loadStep)))
	}
	var pid int
	phase("recall-plugin", func() {
		pid = must(r.pluginState(r.root)).PID
		try(syscall.Kill(pid, syscall.SIGKILL))
	}, func() error { return r.runsAnew(pid) })
	phase("the Mattermost plugin", func() {
		pid = must(r.pluginState(r.root)).PID
		for _, p := range processes("server/plugin-linux-") {
			try(syscall.Kill(p, syscall.SIGKILL))
		}
	}, func() error { return r.runsAnew(pid) }) // Mattermost looks every 30 seconds
	phase("the server", func() {
		pid = must(r.pluginState(r.root)).PID
		r.mm.kill()
		try(wait(r.ctx, soon, func() error {
			if left := processes(filepath.Join(r.mm.data, "plugins", pluginID)); len(left) > 0 {
				return fmt.Errorf("processes %v of the plugin outlive the server", left)
			}
			return nil
		}))
		try(r.mm.start(r.ctx))
	}, func() error { return r.runsAnew(pid) })
	posted, recalled := load.end()
	r.check(recalled >= 6*loadStep, fmt.Sprintf("%d posts, %d recalls were answered", posted, recalled))
	for _, res := range load.results() {
		err := wait(r.ctx, 2*time.Minute, func() error { return r.settled(r.alice, res.RecallID) })
		if err != nil {
			r.check(false, "every step of every recall is settled", res.RecallID, err)
			break
		}
	}
	dump := must(r.db.dump())
	var lost, gone int
	for _, m := range load.messages {
		there := bytes.Contains(dump, []byte(m.text))
		switch {
		case m.recalled && there:
			lost++
			say("still there: %+v", m)
		case !m.recalled && !m.unsure && !there:
			gone++
		}
	}
	r.check(lost == 0, "no recalled text is left", lost)
	r.check(gone == 0, "no other text is gone", gone)
}

func (r *run) runsAnew(pid int) error {
	s, err := r.pluginState(r.root)
	if err == nil && (s.PID == pid || s.PID == 0 || s.Phase != "running") {
		err = fmt.Errorf("%+v", s)
	}
	return err
}

// A load is users who post, and recall half of what they post.
type load struct {
	stop chan struct{}
	done sync.WaitGroup

	mu       sync.Mutex
	messages []*sent
}

// sent is a message of the load.
type sent struct {
	text     string
	result   result
	recalled bool // answered so
	unsure   bool // a recall was asked for, and not answered
}

func (r *run) startLoad() *load {
	l := &load{stop: make(chan struct{})}
	for range 4 {
		l.done.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				case <-time.After(50 * time.Millisecond):
				}
				l.one(r)
			}
		})
	}
	return l
}

func (l *load) one(r *run) {
	m := &sent{text: fmt.Sprintf("load%x", rand.Uint64())}
	p, err := r.alice.post(post{ChannelID: r.town, Message: m.text})
	if err != nil {
		return
	}
	l.mu.Lock()
	l.messages = append(l.messages, m)
	n := len(l.messages)
	l.mu.Unlock()
	if n%2 == 0 {
		return
	}
	res, err := r.alice.recall(p.ID)
	l.mu.Lock()
	defer l.mu.Unlock()
	m.result, m.recalled, m.unsure = res, err == nil && res.Status == "recalled", err != nil
}

// loadStep is how many recalls are answered before and after each kill.
const loadStep = 20

// progress reports whether so many more messages were recalled since it was made.
func (l *load) progress(n int) func() error {
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.results())
	}
	from := count()
	return func() error {
		if count() < from+n {
			return errors.New("the load does not go on")
		}
		return nil
	}
}

func (l *load) end() (posted, recalled int) {
	close(l.stop)
	l.done.Wait()
	return len(l.messages), len(l.results())
}

func (l *load) results() (recalled []result) {
	for _, m := range l.messages {
		if m.recalled {
			recalled = append(recalled, m.result)
		}
	}
	return recalled
}

// nothingLeft: after everything, no recalled text is anywhere, and no other one is gone.
func (r *run) nothingLeft() {
	dump := string(must(r.db.dump()))
	var left, lost []string
	for _, text := range r.recalled {
		if strings.Contains(dump, text) {
			left = append(left, text)
		}
	}
	for _, text := range r.kept {
		if !strings.Contains(dump, text) {
			lost = append(lost, text)
		}
	}
	r.check(len(left) == 0, fmt.Sprintf("pg_dump has none of %d recalled texts", len(r.recalled)), left)
	r.check(len(lost) == 0, fmt.Sprintf("pg_dump has all of %d others", len(r.kept)), lost)
	onDisk := r.onDisk(r.recalled...)
	r.check(len(onDisk) == 0, "no file of the server, of the plugin or of its index has one", onDisk)
	log := string(must(os.ReadFile(r.mm.logFile())))
	var logged []string
	for _, text := range append(slices.Clone(r.recalled), r.kept...) {
		if strings.Contains(log, text) {
			logged = append(logged, text)
		}
	}
	r.check(len(logged) == 0, "the log of the server has no text of any message", logged)
}
