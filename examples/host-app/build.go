package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclparse"
)

// buildPlugin builds the binary that plugin.hcl names, if it is not there.
func buildPlugin(ctx context.Context, config string, log hclog.Logger) error {
	binary, err := pluginBinary(config)
	if err != nil {
		return err
	}
	if _, err := os.Stat(binary); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	root, err := moduleRoot()
	if err != nil {
		return fmt.Errorf("%s is not there, and %w; build it with go build -o %s ./plugin", binary, err, binary)
	}
	log.Info("building the plugin", "binary", binary)
	return goBuild(ctx, root, binary)
}

func goBuild(ctx context.Context, root, binary string) error {
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./plugin")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build -o %s ./plugin in %s: %w\n%s", binary, root, err, out)
	}
	return nil
}

// pluginBinary reads which binary a plugin.hcl names; its path is relative to the file.
func pluginBinary(config string) (string, error) {
	file, diags := hclparse.NewParser().ParseHCLFile(config)
	if diags.HasErrors() {
		return "", fmt.Errorf("read the plugin's configuration, --config names it: %w", diags)
	}
	var named struct {
		Plugin struct {
			Binary string   `hcl:"binary"`
			Rest   hcl.Body `hcl:",remain"`
		} `hcl:"plugin,block"`
		Rest hcl.Body `hcl:",remain"`
	}
	if diags := gohcl.DecodeBody(file.Body, nil, &named); diags.HasErrors() {
		return "", fmt.Errorf("read the plugin's configuration: %w", diags)
	}
	abs, err := filepath.Abs(config)
	if err != nil {
		return "", err
	}
	if filepath.IsAbs(named.Plugin.Binary) {
		return named.Plugin.Binary, nil
	}
	return filepath.Join(filepath.Dir(abs), named.Plugin.Binary), nil
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
