package host

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

func TestLane_PluginKilledUnderCalls(t *testing.T) {
	dir, err := os.MkdirTemp("", "recall") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "recall-plugin")
	if out, err := exec.Command("go", "build", "-o", binary, "../plugin").CombinedOutput(); err != nil {
		t.Fatalf("build the plugin: %v\n%s", err, out)
	}
	staged, err := stage(dir, Binary{Path: binary})
	if err != nil {
		t.Fatal(err)
	}
	p, err := launch(t.Context(), staged, dir, time.Minute, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer p.kill()
	if p.lane == nil {
		t.Fatal("it has no lane")
	}
	if err := syscall.Kill(p.pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	const calls = 50
	began, ended := make(chan struct{}, calls), make(chan error, calls)
	for range calls {
		go func() {
			began <- struct{}{}
			_, err := p.api.Status(t.Context(), "acme", []string{"m"})
			ended <- err
		}()
	}
	for range calls {
		<-began
	}
	if err := syscall.Kill(p.pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	for range calls {
		if err := <-ended; !errors.Is(err, shared.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	}
	if took := time.Since(killed); took > deathPatience {
		t.Errorf("the last call failed %v after the plugin was killed", took)
	}
}
