package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/shared"
)

// stepFailures is the share of attempts of a step that fail.
const stepFailures = 0.02

// A note is what a chat node writes down about its run. Other processes read it when the node is dead.
type note struct {
	At   time.Duration `json:"at"` // since the machine booted, on a clock that nobody sets
	What string        `json:"what"`

	// Of a step that has run, which is What.
	Sequence    uint64   `json:"sequence,omitempty"`
	RecallID    string   `json:"recall_id,omitempty"`
	MessageID   string   `json:"message_id,omitempty"`
	Attachments []string `json:"attachments,omitempty"`

	Node string `json:"node,omitempty"` // of noteGone
}

// Notes that are of no step.
const (
	noteGone   = "gone"   // this node finds that another one is gone
	noteJoins  = "joins"  // this node was gone, and joins again
	noteActive = "active" // a plugin of this node has joined
)

// logNotes are the notes by the line of the plugin's log that stands for them.
var logNotes = map[string]string{
	"a node is gone; other nodes carry out its open steps":                      noteGone,
	"this node was taken for gone, or has joined in part only, and joins again": noteJoins,
	"active": noteActive,
}

// now is the time of notes.
func now() time.Duration { return clock(unix.CLOCK_MONOTONIC) }

// clusterChild is a chat server: a host that is a node of a cluster. It carries out its steps, keeps notes, and does
// what it is asked for over HTTP on a socket. It ends with its standard input.
func clusterChild(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("cluster-child", flag.ContinueOnError)
	dir := set.String("dir", "", "folder of the node, with its plugin.hcl")
	if err := parse(set, args); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	n, err := openNotebook(filepath.Join(*dir, notesFile))
	if err != nil {
		return err
	}
	logger := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.Info})
	logger.RegisterSink(n)
	h, err := host.Open(ctx, host.Config{
		File: filepath.Join(*dir, configFile), RunDir: filepath.Join(*dir, "run"), Logger: logger,
		Steps: map[string]host.Step{
			shared.StepNotify: n.step(), shared.StepHistory: n.step(), shared.StepAttachments: n.step(),
		},
	})
	if err != nil {
		return err
	}
	socket := filepath.Join(*dir, socketFile)
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return errors.Join(err, h.Close())
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return errors.Join(err, h.Close())
	}
	return http.Serve(listener, nodeHandler(h))
}

// nodeHandler answers calls of a host.
func nodeHandler(h *host.Host) http.Handler {
	mux := http.NewServeMux()
	serve(mux, "/index", h.Index)
	serve(mux, "/recall", h.Recall)
	serve(mux, "/since", h.Since)
	serve(mux, "/ledger", h.Ledger)
	serve(mux, "/status", func(ctx context.Context, ids []string) ([]shared.MessageStatus, error) {
		return h.Status(ctx, tenant, ids)
	})
	serve(mux, "/metrics", func(ctx context.Context, _ struct{}) ([]shared.Metric, error) { return h.Metrics(ctx) })
	serve(mux, "/state", func(context.Context, struct{}) (host.State, error) { return h.State(), nil })
	serve(mux, "/upgrade", func(ctx context.Context, path string) (host.UpgradeReport, error) {
		return h.Upgrade(ctx, host.Binary{Path: path})
	})
	return mux
}

func serve[Q, A any](mux *http.ServeMux, path string, call func(context.Context, Q) (A, error)) {
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		var question Q
		err := json.NewDecoder(r.Body).Decode(&question)
		var answer A
		if err == nil {
			answer, err = call(r.Context(), question)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(answer) // who asked may be gone
	})
}

// A notebook is the file with the notes of a node.
type notebook struct {
	mu   sync.Mutex
	file *os.File
}

func openNotebook(path string) (*notebook, error) {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	return &notebook{file: file}, err
}

// write adds a note, by one write: it is there whole, or not at all.
func (n *notebook) write(one note) {
	n.mu.Lock()
	defer n.mu.Unlock()
	one.At = now()
	line, err := json.Marshal(one)
	if err == nil {
		_, err = n.file.Write(append(line, '\n'))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: the notes of this node are incomplete:", err)
		os.Exit(1)
	}
}

// Accept is hclog.SinkAdapter.
func (n *notebook) Accept(_ string, _ hclog.Level, line string, args ...any) {
	what, known := logNotes[line]
	if !known {
		return
	}
	one := note{What: what}
	for i := 0; i+1 < len(args); i += 2 {
		if args[i] == "node" {
			one.Node = fmt.Sprint(args[i+1])
		}
	}
	n.write(one)
}

// step is one that notes that it has run, and sometimes fails before that.
func (n *notebook) step() host.Step {
	return host.Step{Run: func(_ context.Context, d shared.Delivery) (shared.Outcome, error) {
		if rand.Float64() < stepFailures {
			return "", errors.New("the attempt fails on purpose")
		}
		one := note{What: d.Step, Sequence: d.Sequence, RecallID: d.RecallID, MessageID: d.Message.ID}
		for _, a := range d.Attachments {
			one.Attachments = append(one.Attachments, a.Key)
		}
		n.write(one)
		return shared.OutcomeDone, nil
	}}
}
