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

	"github.com/chat-recall/recall/rules/internal/lang"
	"github.com/fsnotify/fsnotify"
)

const (
	// pollInterval is how often the files are read where the file system sends no events. With SettleTime it keeps the
	// promise that a change is taken within two seconds.
	pollInterval = time.Second
	// SettleTime is how long files must stay as they are before they are taken: half a file can be a policy too, one
	// that lacks its last forbid.
	SettleTime = 100 * time.Millisecond
)

// Watcher keeps the policy of some files in force while they change. A change that has an error leaves the policy in
// force as it was, and watching goes on. Its methods may be called by any number of goroutines.
type Watcher struct {
	paths  []string
	report func(*Policy, Diagnostics)
	poll   time.Duration

	policy atomic.Pointer[Policy]
	mu     sync.Mutex
	state  WatchState

	events  *fsnotify.Watcher // nil: the system has none to spare, polling finds changes too
	reloads chan chan Diagnostics
	closing chan struct{}
	closed  chan struct{}
	once    sync.Once
}

// WatchState is what a Watcher shows to operators.
type WatchState struct {
	Paths    []string    // that are followed; none: the built-in policy
	Digest   string      // of the policy in force
	Fallback bool        // the policy in force is the fallback of WatchOr: the files were refused ever since the start
	Loaded   time.Time   // when it came into force
	Warnings Diagnostics // of the policy in force
	Refused  Diagnostics // of the files as they are now, if they were refused; empty: what is on disk is in force
}

// Watch loads the policy in paths as Load does and keeps it following the files. If the files are bad at the start
// there is no Watcher, only diagnostics. Without paths the built-in policy is in force for good.
//
// After each change, report gets the policy that came into force with its warnings, or nil and the errors that refused
// it. It is called by one goroutine at a time, holds up the next change and must not call Reload; it may be nil.
//
// The caller must Close the Watcher.
func Watch(paths []string, report func(*Policy, Diagnostics)) (*Watcher, Diagnostics) {
	return WatchOr(nil, paths, report)
}

// WatchOr is Watch, but if the files are bad at the start, fallback is in force until they are mended, and the
// diagnostics tell why. Without a fallback it is Watch.
func WatchOr(fallback *Policy, paths []string, report func(*Policy, Diagnostics)) (*Watcher, Diagnostics) {
	events, _ := fsnotify.NewWatcher() // without it there is the poll
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
	w.addWatches() // before the files are read, so that no change falls between
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

// Policy is the one in force. It is a snapshot: a decision uses one from start to end.
func (w *Watcher) Policy() *Policy { return w.policy.Load() }

// State tells what is in force, and why what is on disk is not.
func (w *Watcher) State() WatchState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// ErrClosed is that a Watcher was closed.
var ErrClosed = errors.New("the rules are no longer watched")

// Reload reads the files now and takes them if they are good. It returns their diagnostics; errors among these mean
// that the policy in force stayed. Its error is ErrClosed or that of ctx; where a file system does not answer, the
// files may still be taken after ctx has ended.
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

// Close ends watching and waits until it has ended. The policy in force stays.
func (w *Watcher) Close() {
	w.once.Do(func() { close(w.closing) })
	<-w.closed
}

// reading is the files as they were at one moment, read once.
type reading struct {
	builtIn bool
	files   *lang.Reporter
	print   string // of the files, or of the errors that kept them from being read
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

// take puts what was read in force, if it is good.
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

// run owns the watching. taken is the print of what was last taken or refused.
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
		case <-troubles: // such as too many events to tell: look
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

// addWatches asks for events of the directories that hold the files. A file itself is not watched: an editor or a
// ConfigMap puts another one in its place, and the events would stay with the old. Directories that were removed and
// made again are asked for anew at each look.
func (w *Watcher) addWatches() {
	if w.events == nil {
		return
	}
	for _, path := range w.paths {
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			path = filepath.Dir(path)
		}
		_ = w.events.Add(path) // what cannot be watched is polled
	}
}
