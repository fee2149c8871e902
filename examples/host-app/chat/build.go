package chat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/chat-recall/recall/host"
)

// BuildPlugin builds the binary that plugin.hcl names if the file does not exist. Before the build it writes to out
// what it is about to do, because the first build takes some minutes.
func BuildPlugin(ctx context.Context, config string, out io.Writer) error {
	named, err := host.ConfiguredBinary(config)
	if err != nil {
		return err
	}
	binary := named.Path
	if _, err := os.Stat(binary); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	root, err := moduleRoot()
	if err != nil {
		return fmt.Errorf("%s does not exist, and %w; build it with CGO_ENABLED=0 go build -o %s ./plugin",
			binary, err, binary)
	}
	fmt.Fprintf(out, "Building the plugin, %s. The first build takes some minutes.\n", binary)
	return goBuild(ctx, root, binary)
}

func goBuild(ctx context.Context, root, binary string) error {
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./plugin")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // so that it runs on machines without this one's C library
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build -o %s ./plugin in %s: %w\n%s", binary, root, err, out)
	}
	return nil
}

// moduleRoot is the folder of the go.mod at or above the working directory.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("there is no go.mod here or above")
		}
		dir = up
	}
}
