package rules

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/chat-recall/recall/rules/internal/lang"
)

const (
	// pollInterval is how often the files are read if the file system sends no events. Together with SettleTime it
	// guarantees that a change is in force within two seconds.
	pollInterval = time.Second
	// SettleTime is how long files must not change before a [Watcher] loads them. Half a file can be a policy too, without
	// its last forbid.
	SettleTime = 100 * time.Millisecond
)

// Watcher loads the policy of some files and reloads it when they change. If a change has an error, the policy in force
// stays and the Watcher waits for the next change. Its methods are safe for concurrent use.
type Watcher struct {
	paths  []string
	report func(*Policy, Diagnostics)
	poll   time.Duration

	policy atomic.Pointer[Policy]
	mu     sync.Mutex
	state  WatchState

	events  *fsnotify.Watcher // nil if the system has no more; then polling finds changes
	reloads chan chan Diagnostics
	closing chan struct{}
	closed  chan struct{}
	once    sync.Once
}

// WatchState is the state of a [Watcher] for operators.
type WatchState struct {
	Paths    []string    // of the files; none: the built-in policy
	Digest   string      // of the policy in force
	Fallback bool        // the fallback of WatchOr is in force: the files have been refused since the start
	Loaded   time.Time   // when it came into force
	Warnings Diagnostics // of the policy in force
	Refused  Diagnostics // errors of the files as they are now; empty: they are in force
}

// Watch loads the policy in paths like [Load] and reloads it when the files change. If the first load fails it returns
// nil and the diagnostics. Without paths the built-in policy stays in force.
//
// After each change, report gets the policy now in force with its warnings, or nil and the errors. Calls of report do
// not overlap; the next change waits for it, so it must not call Reload. It may be nil.
//
// The caller must Close the Watcher.
func Watch(paths []string, report func(*Policy, Diagnostics)) (*Watcher, Diagnostics) {
	return WatchOr(nil, paths, report)
}

// WatchOr is [Watch] with a fallback: if the first load fails, fallback is in force until the files are corrected, and
// the diagnostics say why. A nil fallback means Watch.
func WatchOr(fallback *Policy, paths []string, report func(*Policy, Diagnostics)) (*Watcher, Diagnostics) {
	events, _ := fsnotify.NewWatcher() // if it fails, polling finds changes
	return watch(fallback, paths, report, pollInterval, events)
}

func watch(fallback *Policy, paths []string, report func(*Policy, Diagnostics), poll time.Duration,
	events *fsnotify.Watcher) (*Watcher, Diagnostics) {
	w := &Watcher{
		paths: paths, report: report, poll: poll, events: events,
		reloads: make(chan chan Diagnostics), closing: make(chan struct{}), closed: make(chan struct{}),
	}
	if report == nil {
		w.report = func(*Policy, Diagnostics) {}
	}
	w.addWatches() // before the files are read, so that no change is missed
	read := w.read()
	p, diags := read.compile()
	switch {
	case p != nil:
		w.install(p, diags)
	case fallback != nil:
		w.install(fallback, nil)
		w.state.Fallback, w.state.Refused = true, diags
	default:
		if events != nil {
			events.Close()
		}
		return nil, diags
	}
	go w.run(read.print)
	return w, diags
}

// Policy returns the policy in force. Use one policy for all parts of a decision, since the next call may return
// another.
func (w *Watcher) Policy() *Policy { return w.policy.Load() }

// State returns what is in force and, if the files are refused, why.
func (w *Watcher) State() WatchState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// ErrClosed means that the [Watcher] is closed.
var ErrClosed = errors.New("rules: watcher is closed")

// Reload loads the files now. It returns their diagnostics; if these contain errors, the policy in force stays. The
// error is [ErrClosed] or that of ctx. If the file system is slow, the files may still come into force after ctx has
// ended.
func (w *Watcher) Reload(ctx context.Context) (Diagnostics, error) {
	reply := make(chan Diagnostics, 1)
	select {
	case w.reloads <- reply:
	case <-w.closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, fmt.Errorf("reload the rules: %w", ctx.Err())
	}
	select {
	case diags := <-reply:
		return diags, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("reload the rules: %w", ctx.Err())
	}
}

// Close stops watching and waits for the goroutine. The policy in force stays available.
func (w *Watcher) Close() {
	w.once.Do(func() { close(w.closing) })
	<-w.closed
}

// reading is the files as they were read once.
type reading struct {
	builtIn bool
	files   *lang.Reporter
	print   string // fingerprint of the files, or of the errors of reading them
}

func (w *Watcher) read() *reading {
	if len(w.paths) == 0 {
		return &reading{builtIn: true}
	}
	files := lang.NewReporter()
	files.Files = lang.ReadSources(w.paths, files)
	return &reading{files: files, print: lang.Digest(files.Files) + files.Diagnostics().String()}
}

func (r *reading) compile() (*Policy, Diagnostics) {
	if r.builtIn {
		return Default(), nil
	}
	return wrap(r.files.Compile())
}

func (w *Watcher) install(p *Policy, warnings Diagnostics) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.policy.Store(p)
	w.state = WatchState{Paths: w.paths, Digest: p.Digest(), Loaded: time.Now(), Warnings: warnings}
}

// take puts the files in force if they have no errors.
func (w *Watcher) take(read *reading) Diagnostics {
	p, diags := read.compile()
	if p != nil {
		w.install(p, diags)
	} else {
		w.mu.Lock()
		w.state.Refused = diags
		w.mu.Unlock()
	}
	w.report(p, diags)
	return diags
}

// run owns the watching. taken is the fingerprint of the files that were last taken or refused.
func (w *Watcher) run(taken string) {
	defer close(w.closed)
	var hints chan fsnotify.Event
	var troubles chan error
	if w.events != nil {
		defer w.events.Close()
		hints, troubles = w.events.Events, w.events.Errors
	}
	ticker := time.NewTicker(w.poll)
	defer ticker.Stop()
	settle := time.NewTimer(0)
	settle.Stop()
	waiting, seen := false, ""
	wait := func() {
		if !waiting {
			settle.Reset(SettleTime)
			waiting = true
		}
	}
	look := func() {
		w.addWatches()
		read := w.read()
		switch read.print {
		case taken:
			seen = ""
		case seen:
			taken, seen = read.print, ""
			w.take(read)
		default:
			seen = read.print
			wait()
		}
	}
	for {
		select {
		case <-w.closing:
			return
		case reply := <-w.reloads:
			read := w.read()
			taken, seen = read.print, ""
			reply <- w.take(read)
		case _, open := <-hints:
			if !open {
				hints = nil
				continue
			}
			wait()
		case <-troubles: // such as an overflow of events
			wait()
		case <-settle.C:
			waiting = false
			look()
		case <-ticker.C:
			if !waiting {
				look()
			}
		}
	}
}

// addWatches subscribes to events of the directories of the files. It does not watch the files themselves, since
// editors and ConfigMaps replace them and the subscription would stay with the old file. It is repeated at each look
// because directories can be removed and created again.
func (w *Watcher) addWatches() {
	if w.events == nil {
		return
	}
	for _, path := range w.paths {
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			path = filepath.Dir(path)
		}
		_ = w.events.Add(path) // if it fails, polling finds changes
	}
}
