package rules

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/goleak"

	"github.com/chat-recall/recall/rules/internal/twin"
)

const (
	shortRules = "policy { window = \"1m\" }\npermit \"own\" { sender = true }\n"
	longRules  = "policy { window = \"1h\" }\npermit \"own\" { sender = true }\n"
)

type change struct {
	policy *Policy
	diags  Diagnostics
}

// watched returns a Watcher of a new directory that contains shortRules, and the changes that it reports.
func watched(t *testing.T, poll time.Duration, events bool) (dir string, w *Watcher, changes chan change) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "rules")
	os.Mkdir(dir, 0o755)
	write(t, filepath.Join(dir, "a.hcl"), shortRules)
	changes = make(chan change, 100)
	var source *fsnotify.Watcher
	if events {
		var err error
		if source, err = fsnotify.NewWatcher(); err != nil {
			t.Fatal("no file system events here:", err)
		}
	}
	w, diags := watch(nil, []string{dir}, func(p *Policy, d Diagnostics) { changes <- change{p, d} }, poll, source)
	if w == nil {
		t.Fatal(diags)
	}
	t.Cleanup(func() {
		w.Close()
		goleak.VerifyNone(t)
	})
	return dir, w, changes
}

func next(t *testing.T, changes chan change) change {
	t.Helper()
	select {
	case c := <-changes:
		return c
	case <-time.After(10 * time.Second):
		t.Fatal("the change was not taken")
		return change{}
	}
}

// nextPolicy is the next policy that came into force. On a busy machine a file can be seen empty before it is written.
func nextPolicy(t *testing.T, changes chan change) *Policy {
	t.Helper()
	for {
		if c := next(t, changes); c.policy != nil {
			return c.policy
		}
	}
}

func window(p *Policy) time.Duration {
	return p.Decide(twin.Request(0, nil)).Until.Sub(twin.Sent)
}

// TestWatcher_Change changes files in every usual way, once with events only and once with polling only.
func TestWatcher_Change(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, dir string){
		"written in place": func(t *testing.T, dir string) { write(t, filepath.Join(dir, "a.hcl"), longRules) },
		"renamed over, as editors do": func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "a.hcl.tmp"), longRules)
			if err := os.Rename(filepath.Join(dir, "a.hcl.tmp"), filepath.Join(dir, "a.hcl")); err != nil {
				t.Fatal(err)
			}
		},
		"moved away and written anew": func(t *testing.T, dir string) {
			os.Rename(filepath.Join(dir, "a.hcl"), filepath.Join(dir, "a.hcl~"))
			write(t, filepath.Join(dir, "a.hcl"), longRules)
		},
	} {
		for _, events := range []bool{true, false} {
			source, poll := "poll", 20*time.Millisecond
			if events {
				source, poll = "events", time.Hour
			}
			t.Run(name+" by "+source, func(t *testing.T) {
				dir, w, changes := watched(t, poll, events)
				change(t, dir)
				if p := nextPolicy(t, changes); window(p) != time.Hour {
					t.Fatalf("in force is a window of %v", window(p))
				}
				if window(w.Policy()) != time.Hour || w.State().Digest != w.Policy().Digest() {
					t.Error("what was reported is not in force")
				}
				write(t, filepath.Join(dir, "a.hcl"), shortRules) // and the next one too
				if p := nextPolicy(t, changes); window(p) != time.Minute {
					t.Errorf("after the second change in force is a window of %v", window(p))
				}
			})
		}
	}
}

func TestWatcher_ConfigMapSwap(t *testing.T) {
	dir := t.TempDir()
	for version, text := range map[string]string{"..1": shortRules, "..2": longRules} {
		os.Mkdir(filepath.Join(dir, version), 0o755)
		write(t, filepath.Join(dir, version, "a.hcl"), text)
	}
	os.Symlink("..1", filepath.Join(dir, "..data"))
	os.Symlink("..data/a.hcl", filepath.Join(dir, "a.hcl"))
	changes := make(chan change, 10)
	w, diags := Watch([]string{dir}, func(p *Policy, d Diagnostics) { changes <- change{p, d} })
	if w == nil {
		t.Fatal(diags)
	}
	defer goleak.VerifyNone(t)
	defer w.Close()
	os.Symlink("..2", filepath.Join(dir, "..data_tmp"))
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	if c := next(t, changes); c.policy == nil || window(c.policy) != time.Hour {
		t.Errorf("reported %+v", c)
	}
}

func TestWatcher_BrokenFile(t *testing.T) {
	dir, w, changes := watched(t, 20*time.Millisecond, false)
	before := w.Policy()
	write(t, filepath.Join(dir, "a.hcl"), "permit \"own\" { sendr = true }")
	for {
		c := next(t, changes)
		if c.policy != nil {
			t.Fatalf("a broken file is in force: %+v", c)
		}
		if strings.Contains(c.diags.String(), "sendr") {
			break
		}
	}
	if w.Policy() != before || !w.State().Refused.HasErrors() || w.State().Digest != before.Digest() {
		t.Errorf("in force is %s, state %+v", w.Policy().Digest(), w.State())
	}
	write(t, filepath.Join(dir, "a.hcl"), longRules)
	if p := nextPolicy(t, changes); window(p) != time.Hour || len(w.State().Refused) > 0 {
		t.Errorf("in force is a window of %v, state %+v", window(p), w.State())
	}
}

func TestWatcher_RemovedDirectory(t *testing.T) {
	dir, w, changes := watched(t, 20*time.Millisecond, true)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if c := next(t, changes); c.policy != nil || window(w.Policy()) != time.Minute {
		t.Errorf("reported %+v", c)
	}
	os.Rename(dir+".away", dir) // as it was: in force again, and said so
	if c := next(t, changes); c.policy == nil || len(w.State().Refused) > 0 {
		t.Errorf("reported %+v", c)
	}
	os.RemoveAll(dir)
	if c := next(t, changes); c.policy != nil {
		t.Errorf("reported %+v", c)
	}
	os.Mkdir(dir, 0o755)
	write(t, filepath.Join(dir, "a.hcl"), longRules)
	if nextPolicy(t, changes); window(w.Policy()) != time.Hour {
		t.Error("the new directory is not in force")
	}
}

func TestWatcher_Reload(t *testing.T) {
	dir, w, _ := watched(t, time.Hour, false)
	write(t, filepath.Join(dir, "a.hcl"), longRules)
	if diags, err := w.Reload(t.Context()); err != nil || diags.HasErrors() || window(w.Policy()) != time.Hour {
		t.Errorf("not in force after Reload: %s, %v", diags, err)
	}
	write(t, filepath.Join(dir, "a.hcl"), "broken")
	if diags, err := w.Reload(t.Context()); err != nil || !diags.HasErrors() || window(w.Policy()) != time.Hour {
		t.Errorf("a broken file: %s, %v", diags, err)
	}
	w.Close()
	if _, err := w.Reload(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Reload after Close: %v", err)
	}
}

// A slow file system delays the reader, but no caller of Reload beyond its context.
func TestWatcher_ReloadContext(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.hcl"), shortRules)
	held, release := make(chan struct{}), make(chan struct{})
	w, diags := watch(nil, []string{dir}, func(*Policy, Diagnostics) {
		close(held)
		<-release
	}, time.Hour, nil)
	if w == nil {
		t.Fatal(diags)
	}
	defer w.Close()
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan error, 1)
	go func() {
		_, err := w.Reload(ctx)
		answer <- err
	}()
	<-held
	cancel()
	if err := <-answer; !errors.Is(err, context.Canceled) {
		t.Errorf("while the files are read: %v", err)
	}
	if _, err := w.Reload(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("behind another reader: %v", err)
	}
}

func TestWatch_BadFilesAtStart(t *testing.T) {
	defer goleak.VerifyNone(t)
	if w, diags := Watch([]string{t.TempDir()}, nil); w != nil || !diags.HasErrors() {
		t.Errorf("an empty directory is watched: %s", diags)
	}
	w, diags := Watch(nil, nil)
	if w == nil || window(w.Policy()) != DefaultWindow {
		t.Fatalf("no paths: %s", diags)
	}
	w.Close()
}

func TestWatchOr_BadFilesAtStart(t *testing.T) {
	fallback := mustParse(t, shortRules)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.hcl"), "permit {")
	w, diags := WatchOr(fallback, []string{dir}, nil)
	if w == nil {
		t.Fatal(diags)
	}
	defer goleak.VerifyNone(t)
	defer w.Close()
	t.Run("leave the fallback in force and say why", func(t *testing.T) {
		st := w.State()
		if w.Policy() != fallback || !st.Fallback || st.Digest != fallback.Digest() || !diags.HasErrors() ||
			st.Refused.String() != diags.String() {
			t.Errorf("in force is %s, state %+v, diagnostics %s", w.Policy().Digest(), st, diags)
		}
	})
	t.Run("stay refused while they are bad", func(t *testing.T) {
		write(t, filepath.Join(dir, "a.hcl"), "permit {{")
		if diags, err := w.Reload(t.Context()); err != nil || !diags.HasErrors() || !w.State().Fallback {
			t.Errorf("diagnostics %s, %v, state %+v", diags, err, w.State())
		}
	})
	t.Run("come into force when they are mended", func(t *testing.T) {
		write(t, filepath.Join(dir, "a.hcl"), longRules)
		if diags, err := w.Reload(t.Context()); err != nil || diags.HasErrors() {
			t.Fatal(diags, err)
		}
		if st := w.State(); window(w.Policy()) != time.Hour || st.Fallback || st.Refused != nil {
			t.Errorf("state %+v", st)
		}
	})
	t.Run("are not replaced if they are good", func(t *testing.T) {
		good, diags := WatchOr(fallback, []string{dir}, nil)
		if good == nil {
			t.Fatal(diags)
		}
		defer good.Close()
		if window(good.Policy()) != time.Hour || good.State().Fallback {
			t.Errorf("state %+v", good.State())
		}
	})
}

func TestPolicy_Files(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.hcl"), shortRules)
	write(t, filepath.Join(dir, "b.hcl"), "forbid \"b\" {\n  type = [\"file\"]\n}\n")
	p, diags := Load(dir)
	if p == nil {
		t.Fatal(diags)
	}
	again, diags := ParseFiles(p.Files())
	if again == nil || again.Digest() != p.Digest() || len(diags) > 0 {
		t.Fatal(diags)
	}
	if got, want := again.Rules(), p.Rules(); len(got) != 2 || got[1] != want[1] {
		t.Errorf("rules %v, want %v", got, want)
	}
}
