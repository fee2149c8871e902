package host

import (
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/chat-recall/recall/internal/config"
	"github.com/chat-recall/recall/shared"
)

// pendingEvery is how often plugin.hcl is compared with what is in force.
const pendingEvery = 2 * time.Second

// watchPending keeps State.Pending up to date until ctx ends.
func (s *supervisor) watchPending(ctx context.Context) {
	tick := time.NewTicker(pendingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.updatePending()
		}
	}
}

// updatePending puts into State what of plugin.hcl is not in force yet, logs it if it is new, and returns it.
func (s *supervisor) updatePending() shared.Diagnostics {
	s.mu.Lock()
	st, inForce := s.state, s.inForce
	s.mu.Unlock()
	found := s.pending(st, inForce)
	if reflect.DeepEqual(found, st.Pending) {
		return found
	}
	for _, d := range found {
		s.logger.Warn("plugin.hcl is not in force as it is now", "diagnostic", d.String())
	}
	s.update(func(st *State) { st.Pending = found })
	return found
}

// pending is a warning for each setting of plugin.hcl that differs from the one in force, or for each error in the
// file.
func (s *supervisor) pending(st State, inForce *config.File) shared.Diagnostics {
	if inForce == nil || st.Phase == PhaseClosed {
		return nil
	}
	var out shared.Diagnostics
	now, found := config.Whole.Load(s.settings.file)
	if now == nil {
		who := "the server"
		if f, _ := config.Plugin.Load(s.settings.file); f == nil {
			who = "the server or a plugin"
		}
		for _, d := range config.Diagnostics(found) {
			if d.Severity == shared.SeverityError {
				d.Severity = shared.SeverityWarning
				d.Summary = "the file as it is now will be refused when " + who + " starts: " + d.Summary
				out = append(out, d)
			}
		}
		return out
	}
	const (
		restart = "To put it in force, restart the server."
		upgrade = "To put it in force, upgrade to the same or another binary (Host.Upgrade), or restart the server."
		binary  = "A restart of the server starts the one in the file. " +
			"To put it in force before, upgrade to it (Host.Upgrade)."
		sum  = "Put that binary in place, and upgrade to it (Host.Upgrade) or restart the server."
		move = "Stop the server to move the index. Until then no plugin is started or upgraded with this file."
	)
	differs := func(name string, now, inForce any, how string) {
		if !reflect.DeepEqual(now, inForce) {
			out = append(out, shared.Diagnostic{
				Severity: shared.SeverityWarning, File: s.settings.file, Detail: how,
				Summary: fmt.Sprintf("%s is %s, and %s is in force", name, spelled(now), spelled(inForce)),
			})
		}
	}
	differs("plugin.binary", now.Plugin.Binary, absolute(st.Binary), binary)
	if now.Plugin.SHA256 != "" {
		differs("plugin.sha256", strings.ToLower(now.Plugin.SHA256), st.SHA256, sum)
	}
	was := s.settings.Plugin
	differs("plugin.start_timeout", now.Plugin.StartTimeout.String(), was.StartTimeout.String(), restart)
	differs("plugin.watch", now.Plugin.Watch, was.Watch, restart)
	differs("index.path", now.Index.Path, s.settings.Index.Path, move)
	differs("index.keep_messages", now.Index.KeepMessages.String(), inForce.Index.KeepMessages.String(), upgrade)
	differs("index.create", now.Index.Create, inForce.Index.Create, upgrade)
	if !slices.Equal(now.Rules.Paths, st.Rules.Paths) {
		differs("rules.paths", now.Rules.Paths, st.Rules.Paths, upgrade)
	}
	differs("rules.on_error", now.Rules.OnError, inForce.Rules.OnError, upgrade)
	differs("cluster", logOf(now.Cluster), logOf(s.settings.Cluster), move)
	if is, was := now.Cluster, inForce.Cluster; is != nil && was != nil {
		for _, a := range []struct {
			name    string
			is, was any
		}{
			{"urls", is.URLs, was.URLs}, {"replicas", is.Replicas, was.Replicas},
			{"credentials", is.Credentials, was.Credentials},
			{"system_credentials", is.SystemCredentials, was.SystemCredentials},
			{"durability", is.Unchecked, was.Unchecked}, {"ca", is.CA, was.CA}, {"cert", is.Cert, was.Cert},
			{"key", is.Key, was.Key}, {"lease", is.Lease.String(), was.Lease.String()},
			{"forget_after", is.ForgetAfter.String(), was.ForgetAfter.String()},
		} {
			differs("cluster."+a.name, a.is, a.was, upgrade)
		}
	}
	return out
}

// spelled is a setting as the file spells it.
func spelled(v any) string {
	if paths, ok := v.([]string); ok {
		if len(paths) == 0 {
			return "the built-in policy"
		}
		quoted := make([]string, len(paths))
		for i, p := range paths {
			quoted[i] = fmt.Sprintf("%q", p)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	return fmt.Sprintf("%#v", v)
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
