package chat

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

const (
	// operatorTimeout bounds what an operator does: an upgrade starts a process and hands an index over.
	operatorTimeout = 2 * time.Minute

	// maxHeld is how many held calls are remembered for the chart.
	maxHeld = 500

	// maxPicked is how many messages the try-it box offers.
	maxPicked = 50
)

// operatorRoutes is what the operator's page calls. It tells facts of messages and never their text. The page asks
// again every second and keeps no stream open, since a browser gives all tabs of a server six connections together
// and the tabs of the users need theirs.
func (a *api) operatorRoutes(mux *http.ServeMux) {
	handle := func(pattern string, do func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), operatorTimeout)
			defer cancel()
			answer, err := do(r.WithContext(ctx))
			a.web().Answer(w, r, answer, err)
		})
	}
	handle("GET /operator/state", a.operatorState)
	handle("GET /operator/rules", a.operatorRules)
	handle("GET /operator/recalls", a.operatorRecalls)
	handle("GET /operator/ledger", func(r *http.Request) (any, error) {
		entries, err := a.server.Ledger(r.Context(), r.URL.Query().Get("recall_id"))
		if entries == nil {
			entries = []shared.LedgerEntry{} // a list for the page, also when the recall was forgotten
		}
		return map[string]any{"entries": entries}, err
	})
	handle("GET /operator/messages", a.operatorMessages)
	handle("POST /operator/reload", func(r *http.Request) (any, error) {
		found, err := a.plugin.Reload(r.Context())
		if found == nil {
			found = shared.Diagnostics{}
		}
		return found, err
	})
	handle("POST /operator/upgrade", a.operatorUpgrade)
	handle("POST /operator/kill", a.operatorKill)
	handle("POST /operator/explain", a.operatorExplain)
}

// operatorState tells how the plugin is and which calls it kept waiting.
func (a *api) operatorState(*http.Request) (any, error) {
	return struct {
		Plugin host.State `json:"plugin"`
		Held   []heldCall `json:"held"`
		Now    time.Time  `json:"now"`
	}{a.plugin.State(), a.held.list(), time.Now().UTC()}, nil
}

// operatorRecalls pages through the recalls of every conversation, oldest first.
func (a *api) operatorRecalls(r *http.Request) (any, error) {
	after := r.URL.Query().Get("after")
	rooms := a.server.store.Rooms()
	rooms = rooms[:min(len(rooms), shared.MaxSinceConversations)]
	page, err := a.recallsAfter(r.Context(), shared.SinceRequest{Tenant: Tenant, Conversations: rooms, After: after})
	if err != nil {
		return nil, err
	}
	return struct {
		Events []shared.Event `json:"events"`
		Next   string         `json:"next"`
		More   bool           `json:"more"`
	}{page.Events, page.Next, page.More}, nil
}

// operatorMessages lists the facts of the newest messages, to try the rules on.
func (a *api) operatorMessages(r *http.Request) (any, error) {
	stored, err := a.server.store.Newest(r.Context(), maxPicked)
	if err != nil {
		return nil, err
	}
	list := make([]shared.Message, 0, len(stored))
	for _, m := range stored {
		list = append(list, m.Message)
	}
	return list, nil
}

// operatorUpgrade puts another plugin binary in force. It takes one from the folder of the binary that runs and from
// nowhere else: there are no passwords here, and who can reach this address must not choose any program to be run.
func (a *api) operatorUpgrade(r *http.Request) (any, error) {
	var in struct {
		Path   string `json:"path"`
		SHA256 string `json:"sha256"`
	}
	if err := adapter.ReadJSON(r, maxBodyBytes, &in); err != nil {
		return nil, err
	}
	folder := filepath.Dir(a.plugin.State().Binary)
	path := in.Path
	if !filepath.IsAbs(path) {
		path = filepath.Join(folder, path)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, shared.Invalidf("path",
			"there is no such file in %s; build it with CGO_ENABLED=0 go build -o %s/recall-plugin-2 ./plugin", folder, folder)
	}
	if allowed, err := filepath.EvalSymlinks(folder); err != nil || filepath.Dir(real) != allowed {
		return nil, shared.Invalidf("path", "is not a file of %s, the folder from which plugins are run", folder)
	}
	report, err := a.plugin.Upgrade(r.Context(), host.Binary{Path: real, SHA256: in.SHA256})
	if err != nil {
		return nil, refuse(http.StatusUnprocessableEntity, "the plugin that was there stays in force: %v", err)
	}
	return report, nil
}

// operatorKill ends the plugin as a crash would.
func (a *api) operatorKill(*http.Request) (any, error) {
	pid := a.plugin.State().PID
	if pid == 0 {
		return nil, refuse(http.StatusConflict, "there is no plugin process at this moment")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return nil, fmt.Errorf("kill the plugin: %w", err)
	}
	return map[string]int{"pid": pid}, nil
}

// heldCalls remembers the last calls that had to wait for the plugin.
type heldCalls struct {
	mu    sync.Mutex
	calls []heldCall
}

// heldCall is one of them.
type heldCall struct {
	At time.Time `json:"at"`
	Ms float64   `json:"ms"`
}

// add is host.Config.OnHeld.
func (h *heldCalls) add(waited time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, heldCall{time.Now().UTC(), float64(waited.Microseconds()) / 1000})
	h.calls = h.calls[max(0, len(h.calls)-maxHeld):]
}

func (h *heldCalls) list() []heldCall {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]heldCall{}, h.calls...)
}
