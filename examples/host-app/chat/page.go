package chat

import (
	"embed"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"

	"github.com/chat-recall/recall/host/adapter"
)

// static is the page: plain HTML, CSS and modules, as they are in the folder.
//
//go:embed static
var static embed.FS

// contentPolicy lets a page load what this server serves and nothing else, and run no script and no style that stands
// in a document. Attachments are shown from blob: addresses that the page made. frames are the pages that it may have
// in frames; framedBy those that may frame it.
func contentPolicy(frames, framedBy string) string {
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src blob:; " +
		"connect-src 'self'; frame-src " + frames + "; frame-ancestors " + framedBy + "; base-uri 'none'; " +
		"form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
}

// documents are the pages by their address.
var documents = map[string]string{
	"/{$}":      "start.html",    // who are you?
	"/chat":     "chat.html",     // ?user=
	"/side":     "side.html",     // ?left=&right=, two users beside each other
	"/operator": "operator.html", // the plugin
	"/audit":    "audit.html",    // ?user=, of compliance
}

// pageRoutes serves the page and tells it who the demo users are.
func pageRoutes(mux *http.ServeMux, store *Store, policy string) {
	for address, file := range documents {
		mux.HandleFunc("GET "+address, func(w http.ResponseWriter, _ *http.Request) { serveStatic(w, static, file, policy) })
	}
	mux.HandleFunc("GET /static/{file}",
		func(w http.ResponseWriter, r *http.Request) { serveStatic(w, static, r.PathValue("file"), policy) })
	mux.HandleFunc("GET /users", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(encode(store.Users()))
	})
}

// ServePage serves a page of another program that shows pages of chat servers in frames, and has their looks. file is
// of the folder static of files, or else of this package.
func ServePage(w http.ResponseWriter, files fs.FS, file string, frames []string) {
	if _, err := fs.Stat(files, path.Join("static", path.Base(file))); err != nil {
		files = static
	}
	serveStatic(w, files, file, contentPolicy(strings.Join(frames, " "), "'none'"))
}

// serveStatic serves one embedded file.
func serveStatic(w http.ResponseWriter, files fs.FS, file, policy string) {
	content, err := fs.ReadFile(files, path.Join("static", path.Base(file)))
	if err != nil {
		adapter.WriteError(w, refuse(http.StatusNotFound, "there is no such page"))
		return
	}
	h := w.Header()
	h.Set("Content-Type", mime.TypeByExtension(path.Ext(file)))
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache") // a new build of the server is a new page
	_, _ = w.Write(content)            // a client that went away has no use for it
}
