package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/chat-recall/recall/host/hosttest"
)

// browser shows the page of the example.
type browser struct {
	t     *testing.T
	ctx   context.Context
	panes []string // origins of the frames, by number of the chat server

	mu      sync.Mutex
	frames  map[string]runtime.ExecutionContextID // by origin
	trouble []string                              // exceptions
}

// openBrowser opens the page, and waits until each pane is connected to its server.
func openBrowser(t *testing.T, e *example) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		hosttest.Missing(t, "the browser Chromium; on Debian: apt-get install chromium")
	}
	p := &browser{t: t, frames: make(map[string]runtime.ExecutionContextID)}
	for _, n := range e.state().Nodes {
		p.panes = append(p.panes, n.URL)
	}
	allocator, endAllocator := chromedp.NewExecAllocator(t.Context(), chromedp.ExecPath(path),
		chromedp.UserDataDir(t.TempDir()), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.NoDefaultBrowserCheck, chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-renderer-backgrounding", true), chromedp.Flag("disable-background-timer-throttling", true))
	ctx, endTab := chromedp.NewContext(allocator, chromedp.WithListener(p.note))
	p.ctx = ctx
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx)
		endTab()
		endAllocator()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, problem := range p.trouble {
			t.Errorf("the page: %s", problem)
		}
	})
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1400, 900), chromedp.Navigate(e.url)); err != nil {
		t.Fatal(err)
	}
	for i := range p.panes {
		p.waits(i, `document.body.dataset.online === 'yes'`)
	}
	return p
}

// note remembers the frames of the page, and what it throws.
func (p *browser) note(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExecutionContextCreated:
		p.frames[e.Context.Origin] = e.Context.ID
	case *runtime.EventExceptionThrown:
		p.trouble = append(p.trouble, fmt.Sprintf("%s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception))
	}
}

// evaluate evaluates JavaScript in a pane, or in the page itself if pane is -1. What throws is null.
func (p *browser) evaluate(pane int, script string) string {
	p.t.Helper()
	params := runtime.EvaluateParams{
		Expression:    "(() => { try { return " + script + "; } catch { return null; } })()",
		ReturnByValue: new(true),
	}
	if pane >= 0 {
		p.mu.Lock()
		params.ContextID = p.frames[p.panes[pane]]
		p.mu.Unlock()
		if params.ContextID == 0 {
			return "null" // it is not loaded yet
		}
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	answer, err := chromedp.Call(ctx, runtime.Evaluate, params)
	if err != nil {
		p.t.Fatalf("%s: %v", script, err)
	}
	return strings.TrimSpace(string(answer.Result.Value))
}

func (p *browser) holds(pane int, condition string) bool {
	p.t.Helper()
	return p.evaluate(pane, "Boolean("+condition+")") == "true"
}

func (p *browser) waits(pane int, condition string) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !p.holds(pane, condition); {
		if time.Now().After(deadline) {
			p.t.Fatalf("pane %d: never came true: %s\nit shows: %s", pane, condition,
				p.evaluate(pane, "document.body.innerText"))
		}
		select {
		case <-time.After(20 * time.Millisecond): // polling, bounded by the deadline
		case <-p.ctx.Done():
			p.t.Fatal(p.ctx.Err())
		}
	}
}

// shot takes a picture for people, into a folder that is no part of the project.
func (p *browser) shot(name string) {
	png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	dir := filepath.Join("..", "..", "screenshots")
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)
	}
	if err != nil {
		p.t.Logf("no picture %s: %v", name, err)
	}
}

// shows waits until a pane shows a message with its text.
func (p *browser) shows(pane int, id, text string) {
	p.t.Helper()
	p.waits(pane, fmt.Sprintf(`document.querySelector('.message[data-id=%s]').innerText.includes(%s)`, quoted(id),
		quoted(text)))
}

// lacks waits until a pane that is connected shows that a message is recalled, and has its text nowhere.
func (p *browser) lacks(pane int, id, text string) {
	p.t.Helper()
	p.waits(pane, fmt.Sprintf(`document.body.dataset.online === 'yes' && !document.body.outerHTML.includes(%s) &&
		document.querySelector('.placeholder[data-id=%s]')`, quoted(text), quoted(id)))
}

// click clicks a button of the page once it may be.
func (p *browser) click(selector string) {
	p.t.Helper()
	p.waits(-1, clicked(selector))
}

// tryClick clicks a button of the page if it may be at this moment.
func (p *browser) tryClick(selector string) {
	p.t.Helper()
	p.holds(-1, clicked(selector))
}

// clicked is true once it has clicked a button that may be.
func clicked(selector string) string {
	return fmt.Sprintf(`document.querySelector(%s).checkVisibility() && !document.querySelector(%s).disabled &&
		!document.querySelector(%s).click()`, quoted(selector), quoted(selector), quoted(selector))
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}
