package server

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// accepted notes a new connection. Handlers can then ask who is at the other end.
func (s *Server) accepted(ctx context.Context, c net.Conn) context.Context {
	s.fresh.Store(c, nil)
	return context.WithValue(ctx, connKey{}, c)
}

// changed forgets a connection that ends without a request.
func (s *Server) changed(c net.Conn, state http.ConnState) {
	if state == http.StateClosed || state == http.StateHijacked {
		s.fresh.Delete(c)
	}
}

// Shutdown takes no new connections, ends the polls, and answers the other requests until ctx ends.
func (s *Server) Shutdown(ctx context.Context) {
	if s.leaving.Swap(true) {
		return
	}
	s.Service.Leave()
	for _, ln := range s.open {
		_ = ln.Close()
	}
	s.running.Wait()
	for _, server := range s.servers {
		server.SetKeepAlivesEnabled(false)
	}
	s.awaitFirstRequests(ctx)
	var all sync.WaitGroup
	for _, server := range s.servers {
		all.Go(func() {
			if err := server.Shutdown(ctx); err != nil {
				s.Log.Warn("requests were cut off", "error", err)
				_ = server.Close()
			}
		})
	}
	all.Wait()
}

// awaitFirstRequests waits until every connection has sent its first request, for as long as one may take. A server
// that shuts down drops a request that it reads then, and a client that has just connected cannot know.
func (s *Server) awaitFirstRequests(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, headerTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		waits := false
		s.fresh.Range(func(_, _ any) bool {
			waits = true
			return false
		})
		if !waits {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
