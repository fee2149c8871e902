// Command minimal is a chat server that can take messages back. It has one room and keeps its messages in memory.
//
//	go run ./examples/minimal
//	curl -d user=ann -d 'text=wrong room' http://127.0.0.1:8080/messages   # send; prints the id
//	curl http://127.0.0.1:8080/messages                                    # read
//	curl -X DELETE 'http://127.0.0.1:8080/messages/ID?user=ann'            # recall
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/shared"
)

var room = shared.Conversation{Type: shared.ConversationGroup, ID: "room"}

type server struct {
	recall *host.Host
	texts  sync.Map // of the messages that are shown, by id
}

type handler func(w io.Writer, r *http.Request) error

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h(w, r); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	log.Fatal(run(ctx, "data/minimal", "127.0.0.1:8080", os.Stdout))
}

func run(ctx context.Context, dir, addr string, out io.Writer) error {
	plugin := filepath.Join(dir, "recall-plugin")
	fmt.Fprintln(out, "Building the plugin. The first build takes some minutes and about 1 GB of disk.")
	build := exec.CommandContext(ctx, "go", "build", "-o", plugin, "github.com/chat-recall/recall/plugin")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the plugin: %w\n%s", err, text)
	}
	var s server
	recall, err := host.Open(ctx, host.Config{
		Plugin: host.PluginConfig{Binary: plugin}, Index: host.IndexConfig{Path: filepath.Join(dir, "index")},
		RunDir: filepath.Join(dir, "run"), Steps: map[string]host.Step{shared.StepHistory: {Run: s.remove}},
	})
	if err != nil {
		return err
	}
	s.recall = recall
	defer recall.Close()
	mux := http.NewServeMux()
	mux.Handle("POST /messages", handler(s.send))
	mux.Handle("GET /messages", handler(s.list))
	mux.Handle("DELETE /messages/{id}", handler(s.takeBack))
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	web := &http.Server{Handler: http.TimeoutHandler(mux, 10*time.Second, "timeout")} // ends the context of a call too
	defer context.AfterFunc(ctx, func() { _ = web.Close() })()
	fmt.Fprintf(out, "Listening on http://%s\n", listener.Addr())
	return web.Serve(listener)
}

// send indexes a message before it shows and acknowledges it: whatever users see can be recalled.
func (s *server) send(w io.Writer, r *http.Request) error {
	id := rand.Text()
	results, err := s.recall.Index(r.Context(), []shared.Message{{Tenant: "example", ID: id, Conversation: room,
		Sender: r.FormValue("user"), Type: shared.TypeText, SentAt: time.Now()}})
	if err == nil && results[0].Status == shared.IndexInvalid {
		err = shared.Invalidf(results[0].Field, "%s", results[0].Problem)
	}
	if err != nil {
		return err
	}
	s.texts.Store(id, r.FormValue("text")) // nobody could recall it before this: nobody knew its id
	_, err = fmt.Fprintln(w, id)
	return err
}

func (s *server) list(w io.Writer, _ *http.Request) (err error) {
	s.texts.Range(func(id, text any) bool { _, err = fmt.Fprintln(w, id, text); return err == nil })
	return err
}

// takeBack returns when the recall is carried out. A real server knows its users, and their roles in the conversation.
func (s *server) takeBack(_ io.Writer, r *http.Request) error {
	results, err := s.recall.Recall(r.Context(), shared.RecallRequest{
		Tenant: "example", Actor: shared.Actor{ID: r.FormValue("user")},
		Targets: []shared.Target{{MessageID: r.PathValue("id"), Conversation: room, Role: shared.RoleMember}}})
	if err == nil && len(results[0].Text) > 0 { // a refusal
		err = errors.New(results[0].Text["en"])
	}
	if err != nil {
		return err
	}
	return s.recall.Wait(r.Context(), "example", results[0].RecallID)
}

// remove is the step "history" of a recall.
func (s *server) remove(_ context.Context, d shared.Delivery) (shared.Outcome, error) {
	s.texts.Delete(d.Message.ID)
	return shared.OutcomeDone, nil
}
