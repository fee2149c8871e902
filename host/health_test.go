package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// heldOutput is a plugin whose outputs another process keeps open after its death, as a log that is still read does:
// the host learns of the death only when the pipe at FIFO is opened and closed.
func heldOutput(t *testing.T, binary, fifo string) string {
	t.Helper()
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	return script(t, "( read x < "+fifo+" ) &\nexec "+binary+"\n")
}

func TestCheckHealth_KilledPluginIsNoFailedHealthCall(t *testing.T) {
	dir, err := os.MkdirTemp("", "recall") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	binary, file, fifo := filepath.Join(dir, "recall-plugin"), filepath.Join(dir, "plugin.hcl"), filepath.Join(dir, "fifo")
	if out, err := exec.Command("go", "build", "-o", binary, "../plugin").CombinedOutput(); err != nil {
		t.Fatalf("build the plugin: %v\n%s", err, out)
	}
	text := "plugin {\n  binary = \"recall-plugin\"\n}\n\nindex {\n  path = \"index\"\n}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	staged, err := stage(dir, Binary{Path: heldOutput(t, binary, fifo)})
	if err != nil {
		t.Fatal(err)
	}
	settings, err := readSettings(file)
	if err != nil {
		t.Fatal(err)
	}
	logger := hclog.NewNullLogger()
	used, err := readLastUsed(dir, logger)
	if err != nil {
		t.Fatal(err)
	}
	s := &supervisor{settings: settings, runDir: dir, gate: newGate(nil), logger: logger, lastUsed: used}
	if s.current, err = s.bringUp(t.Context(), staged); err != nil {
		t.Fatal(err)
	}
	p := s.current
	defer p.kill()
	if err := s.checkHealth(t.Context()); err != nil {
		t.Fatalf("one that lives: %v", err)
	}
	if err := syscall.Kill(p.pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	let := time.AfterFunc(deathPatience/5, func() { _ = os.WriteFile(fifo, nil, 0) })
	defer let.Stop()
	if err := s.checkHealth(t.Context()); err != nil {
		t.Errorf("one that was killed: %v", err)
	}
	if err := p.death(); !strings.Contains(err.Error(), "killed by SIGKILL") {
		t.Errorf("it died of %v", err)
	}
}
