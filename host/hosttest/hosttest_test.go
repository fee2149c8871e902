package hosttest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chat-recall/recall/host"
)

// A chat server has no sums of what only the plugin depends on.
func TestReadme_InstallsThePlugin(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatal(err)
	}
	module := strings.TrimSpace(string(out))
	sums, err := os.ReadFile(filepath.Join(module, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	var servers []byte
	for line := range bytes.Lines(sums) {
		if !bytes.Contains(line, []byte("badger")) || bytes.Contains(line, []byte("/go.mod ")) {
			servers = append(servers, line...)
		}
	}
	dir := t.TempDir()
	text := fmt.Sprintf("module example.com/server\n\ngo 1.26\n\nrequire %s v0.0.0\n\nreplace %s => %s\n", modulePath,
		modulePath, module)
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), servers, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, path := range []string{BuildPlugin(t), BuildFaulty(t, "newer-minor")} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	readme, err := os.ReadFile(filepath.Join(module, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, install, _ := strings.Cut(string(readme), "```sh\nCGO_ENABLED=0")
	install, _, found := strings.Cut("CGO_ENABLED=0"+install, "```")
	if !found {
		t.Fatal("README.md has no command that builds the plugin")
	}
	command := exec.CommandContext(t.Context(), "sh", "-ec", install)
	if out, err := command.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "recall-plugin ") {
		t.Errorf("%s: %v\n%s", install, err, out)
	}
	if _, err := os.Stat("bin/recall-plugin"); err != nil {
		t.Error(err)
	}
}

func TestBuildFaulty_Faults(t *testing.T) {
	src, err := os.ReadFile("../../plugin/internal/faulty/main.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range faults {
		if !bytes.Contains(src, []byte(fmt.Sprintf("%q", fault))) {
			t.Errorf("%s is no fault", fault)
		}
	}
}

func TestHang_StopsEveryThread(t *testing.T) {
	h := Open(t, host.Config{})
	pid := h.State().PID
	for range 100 {
		Hang(t, h)
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil || len(stats) == 0 {
			t.Fatalf("the threads of the plugin: %v, %v", stats, err)
		}
		for _, path := range stats {
			stat, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, state, _ := bytes.Cut(stat, []byte(") ")); state[0] != 'T' {
				t.Errorf("a thread runs after Hang: %s", stat)
			}
		}
		Continue(t, h)
	}
}
