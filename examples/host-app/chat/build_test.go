package chat

import (
	"context"
	"debug/elf"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chat-recall/recall/host/hosttest"
)

func TestGoBuild_NeedsNoLoader(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "recall-plugin")
	if err := goBuild(t.Context(), root, binary); err != nil {
		t.Fatal(err)
	}
	file, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("it is linked dynamically")
		}
	}
}

func TestBuildPlugin_SaysSoFirst(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "recall-plugin")
	config := hosttest.WriteConfig(t, binary, t.TempDir())
	ended, cancel := context.WithCancel(t.Context())
	cancel() // the build does not even start
	var out strings.Builder
	err := BuildPlugin(ended, config, &out)
	if want := "Building the plugin, " + binary; err == nil || !strings.HasPrefix(out.String(), want) {
		t.Errorf("%v, and it printed %q; want an error and %q", err, out.String(), want)
	}
}
