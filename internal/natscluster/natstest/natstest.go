// Package natstest starts servers of NATS JetStream for tests.
package natstest

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/internal/natscluster"
)

// build builds the server once for the tests of a process.
var build = sync.OnceValues(func() (string, error) { return natscluster.BuildCached(context.Background()) })

// Start starts servers of which each syncs what it acknowledges, until the test ends. change may change the options; it
// may be nil. Where the server cannot be built, the test is skipped as [hosttest.Missing] does.
func Start(t testing.TB, count int, change func(*natscluster.Options)) *natscluster.Servers {
	t.Helper()
	binary, err := build()
	if err != nil {
		hosttest.Missing(t, "the NATS server, which is built from its module: "+err.Error())
	}
	o := natscluster.Options{Binary: binary, Folder: t.TempDir(), Count: count}
	if change != nil {
		change(&o)
	}
	s, err := natscluster.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Credentials writes a file with a user and password, and returns its path.
func Credentials(t testing.TB, userAndPassword string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte(userAndPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
