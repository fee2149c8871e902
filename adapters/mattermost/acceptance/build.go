package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	serverModule  = "github.com/mattermost/mattermost-server/v6"
	serverVersion = "v6.7.2"
)

// buildServer builds the Mattermost server in a folder, unless it is there, and returns the folder of the server: the
// binary, and the folders i18n, templates and fonts that it reads.
func buildServer(ctx context.Context, cache string) (string, error) {
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(user, "recall-mattermost")
	}
	cache, err := filepath.Abs(cache)
	if err != nil {
		return "", err
	}
	done := filepath.Join(cache, serverVersion)
	if _, err := os.Stat(done); err == nil {
		return done, nil
	}
	began := time.Now()
	say("building Mattermost %s in %s: this takes some minutes, once", serverVersion, cache)
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(cache, "build")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	run := func(args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = work
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod -buildvcs=false")
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, errs.String())
		}
		return out, err
	}
	// The replacement is that of the server's own go.mod; its golang.org/x/net does not build with a current Go.
	mod := "module server\n\ngo 1.26\n\n" +
		"replace github.com/Masterminds/squirrel v1.5.2 => github.com/lieut-data/squirrel v1.5.4\n"
	if err := os.WriteFile(filepath.Join(work, "go.mod"), []byte(mod), 0o644); err != nil {
		return "", err
	}
	source, err := sourceFolder(run)
	if err != nil {
		return "", err
	}
	// Its checksums stand in for those of modules that the checksum database does not have any more.
	sums, err := os.ReadFile(filepath.Join(source, "go.sum"))
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(work, "go.sum"), sums, 0o644); err != nil {
		return "", err
	}
	if _, err := run("get", serverModule+"/cmd/mattermost@"+serverVersion, "golang.org/x/net@v0.29.0"); err != nil {
		return "", err
	}
	if _, err := run("build", "-o", "mattermost", serverModule+"/cmd/mattermost"); err != nil {
		return "", err
	}
	for _, folder := range []string{"i18n", "templates", "fonts"} {
		if err := os.CopyFS(filepath.Join(work, folder), os.DirFS(filepath.Join(source, folder))); err != nil {
			return "", err
		}
	}
	say("built in %s", time.Since(began).Round(time.Second))
	if err := os.Rename(work, done); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return done, os.Chmod(done, 0o755)
}

// sourceFolder downloads the module of the server and returns its folder.
func sourceFolder(run func(...string) ([]byte, error)) (string, error) {
	text, err := run("mod", "download", "-json", serverModule+"@"+serverVersion)
	if err != nil {
		return "", err
	}
	var module struct{ Dir string }
	err = json.Unmarshal(text, &module)
	return module.Dir, err
}

func firstLine(text []byte) string {
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}
