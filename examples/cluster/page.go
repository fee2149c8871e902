package main

import (
	"embed"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/chat-recall/recall/examples/host-app/chat"
)

// static is the page; it has its looks from the page of the chat.
//
//go:embed static
var static embed.FS

// page serves the page and its buttons.
type page struct{ fleet *fleet }

func (p *page) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		if "http://"+r.Host != p.fleet.origin { // by another name the chat servers do not let the page frame them
			http.Redirect(w, r, p.fleet.origin, http.StatusFound)
			return
		}
		p.file(w, "cluster.html")
	})
	mux.HandleFunc("GET /static/{file}", func(w http.ResponseWriter, r *http.Request) { p.file(w, r.PathValue("file")) })
	mux.HandleFunc("GET /state", p.state)
	mux.HandleFunc("POST /do", p.do)
	return chat.Guard(mux, "")
}

func (p *page) file(w http.ResponseWriter, name string) {
	var frames []string
	for _, c := range p.fleet.chats {
		frames = append(frames, c.url())
	}
	chat.ServePage(w, static, name, frames)
}

// serverState is what the page shows of a server of JetStream.
type serverState struct {
	Name   string `json:"name"`
	Status status `json:"status"`
	Leader bool   `json:"leader"` // of the stream
}

func (p *page) state(w http.ResponseWriter, _ *http.Request) {
	var answer struct {
		Nodes   []nodeState   `json:"nodes"`
		Servers []serverState `json:"servers"`
	}
	for _, c := range p.fleet.chats {
		answer.Nodes = append(answer.Nodes, c.state())
	}
	for _, l := range p.fleet.logs {
		answer.Servers = append(answer.Servers, serverState{
			Name: l.name(), Status: l.state(), Leader: int64(l.number) == p.fleet.leader.Load(),
		})
	}
	write(w, http.StatusOK, answer)
}

// do is a button: {"what": "kill", "to": "n0"}. to is a chat server with its plugin (n0), a plugin alone (plugin-n0) or
// a server of JetStream (s0).
func (p *page) do(w http.ResponseWriter, r *http.Request) {
	var in struct{ What, To string }
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10)).Decode(&in)
	if err == nil {
		err = errors.New("there is no " + in.To)
		for _, c := range p.fleet.chats {
			switch in.To {
			case c.name:
				err = c.do(r.Context(), in.What)
			case "plugin-" + c.name:
				err = c.doPlugin(r.Context(), in.What)
			}
		}
		for _, l := range p.fleet.logs {
			if in.To == l.name() {
				err = l.do(r.Context(), in.What)
			}
		}
	}
	if err != nil {
		write(w, http.StatusConflict, map[string]string{"error": err.Error()})
		return
	}
	write(w, http.StatusOK, struct{}{})
}

func write(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // a client that went away has no use for it
}
