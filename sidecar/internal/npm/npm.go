// Package npm gives tests the packages from npm that package.json names.
package npm

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/chat-recall/recall/host/hosttest"
)

// Require returns the path of Node.js and the folder of this package, whose scripts can import the packages. If Node.js
// or a package in the version that package.json names is missing, the test is skipped as [hosttest.Missing] does.
func Require(t testing.TB) (node, dir string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		hosttest.Missing(t, "Node.js; on Debian: apt-get install nodejs npm")
	}
	dir = filepath.Join(moduleDir(t), "sidecar", "internal", "npm")
	var wanted struct{ Dependencies map[string]string }
	if err := readJSON(filepath.Join(dir, "package.json"), &wanted); err != nil {
		t.Fatal(err)
	}
	for name, version := range wanted.Dependencies {
		var installed struct{ Version string }
		err := readJSON(filepath.Join(dir, "node_modules", filepath.FromSlash(name), "package.json"), &installed)
		if err != nil || installed.Version != version {
			hosttest.Missing(t, "the npm package "+name+" "+version+"; run npm ci --prefix sidecar/internal/npm")
		}
	}
	return node, dir
}

// moduleDir is the folder with go.mod. go test runs a test in the folder of its package.
func moduleDir(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no folder above the test has a go.mod")
		}
		dir = parent
	}
}

func readJSON(file string, v any) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}
