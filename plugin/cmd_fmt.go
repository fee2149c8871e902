package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/chat-recall/recall/rules"
)

// runFmt is recall-plugin fmt.
func runFmt(args []string, stdout, stderr io.Writer) int {
	t := newTool("fmt", "[--check] [--json] PATH...",
		"Writes rule and test files in the canonical format and names those that changed.", stdout, stderr)
	check := t.Bool("check", false, "change nothing, and exit with 1 if a file is not in the canonical format")
	paths, code, done := t.parse(args)
	switch {
	case done:
		return code
	case len(paths) == 0:
		return t.wrongUsage("name files or directories")
	}
	files, diags := rules.Files(paths...)
	changed := []string{}
	for _, file := range files {
		was, now, more := rules.FormatFile(file)
		diags = append(diags, more...)
		if more.HasErrors() || bytes.Equal(was, now) {
			continue
		}
		if !*check {
			if err := replaceFile(file, now); err != nil {
				diags = append(diags, rules.Diagnostic{Severity: rules.Error, File: file, Summary: err.Error()})
				continue
			}
		}
		changed = append(changed, filepath.ToSlash(file))
	}
	ok := !diags.HasErrors() && !(*check && len(changed) > 0)
	t.print(struct {
		OK          bool              `json:"ok"`
		Changed     []string          `json:"changed"`
		Diagnostics rules.Diagnostics `json:"diagnostics,omitempty"`
	}{ok, changed, diags}, strings.Join(append(changed, diags.String()), "\n"))
	if !ok {
		return exitBad
	}
	return exitGood
}

// replaceFile replaces a file in one step, so that a plugin that watches it never reads half of it.
func replaceFile(name string, text []byte) error {
	name, err := filepath.EvalSymlinks(name)
	if err != nil {
		return fmt.Errorf("cannot be written: %w", err)
	}
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("cannot be written: %w", err)
	}
	temp, err := os.CreateTemp(filepath.Dir(name), ".recall-fmt-")
	if err != nil {
		return fmt.Errorf("cannot be written: %w", err)
	}
	defer os.Remove(temp.Name()) // it no longer exists after success
	_, err = temp.Write(text)
	if chmod := temp.Chmod(info.Mode().Perm()); err == nil {
		err = chmod
	}
	if closing := temp.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(temp.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("cannot be written: %w", err)
	}
	return nil
}
