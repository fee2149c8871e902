package host

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// script writes an executable shell script.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStage_ChecksumMustMatch(t *testing.T) {
	path, dir := script(t, "exit 0"), t.TempDir()
	first, err := stage(dir, Binary{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stage(dir, Binary{Path: path, SHA256: strings.ToUpper(first.sha256)}); err != nil {
		t.Errorf("the right checksum in capitals: %v", err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 1"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = stage(dir, Binary{Path: path, SHA256: first.sha256})
	if !errors.Is(err, ErrChecksum) || !strings.Contains(err.Error(), path) ||
		!strings.Contains(err.Error(), first.sha256) {
		t.Errorf("another file under the same name: %v", err)
	}
	if err := first.verify(); err != nil {
		t.Errorf("the copy, after its source has changed: %v", err)
	}
	if err := errors.Join(os.Chmod(first.path, 0o700),
		os.WriteFile(first.path, []byte("#!/bin/sh\nrm -rf /"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := first.verify(); !errors.Is(err, ErrChecksum) {
		t.Errorf("a copy that was tampered with: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "copy-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestStage_NotABinary(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		b     Binary
		words string
	}{
		{Binary{}, "host.Binary.Path is empty"},
		{Binary{Path: filepath.Join(t.TempDir(), "absent")}, "no such file"},
		{Binary{Path: t.TempDir()}, "not a regular file"},
		{Binary{Path: "/dev/zero"}, "not a regular file"},
		{Binary{Path: plain}, "chmod +x"},
		{Binary{Path: plain, SHA256: "abc"}, "64 hexadecimal digits"},
	} {
		if _, err := stage(t.TempDir(), tc.b); err == nil || !strings.Contains(err.Error(), tc.words) {
			t.Errorf("%+v: got %v, want %q", tc.b, err, tc.words)
		}
	}
}

func TestOpen_WrongConfiguration(t *testing.T) {
	for _, tc := range []struct{ text, words string }{
		{"plugin {", "plugin.hcl:1:"},
		{"index {}", "plugin"},
		{"plugin {\n  binry = \"x\"\n}", "plugin.hcl:2:3"},
		{"plugin {\n}", "needs \"binary\""},
		{"plugin {\n  binary = null\n}", "needs \"binary\""},
		{"plugin {\n  binary = x\n}", "plugin.hcl:2:12"},
		{"plugin {\n  binary = \"\"\n}", "plugin.hcl:2:12: error: plugin.binary is empty"},
		{"plugin {\n  binary = 5\n  sha256 = \"zz\"\n}",
			"plugin.hcl:3:12: error: plugin.sha256 is \"zz\": a SHA-256 is 64 hexadecimal"},
		{"plugin {\n  binary = \"x\"\n  start_timeout = \"soon\"\n}", "plugin.hcl:3:19: error: plugin.start_timeout"},
		{"plugin {\n  binary = \"x\"\n  start_timeout = \"-1s\"\n}", "plugin.hcl:3:19: error: plugin.start_timeout"},
		{strings.Repeat("a = [", 6000), "plugin.hcl:1:"},
		{"plugin {\n  binary = \"~/bin/recall-plugin\"\n}",
			"plugin.hcl:2:12: error: plugin.binary begins with ~, which only a shell replaces"},
		{"plugin {\n  binary = \"b${1}\"\n}", "plugin.hcl:2:14: error: \"${\" is not part of plugin.hcl"},
		{"plugin {\n  binary = <<E\nb\nE\n}", "plugin.hcl:2:12: error: \"<<E\\n\" is not part of plugin.hcl"},
		{"plugin {\n  binary = \"cafe\u0301\"\n}",
			"plugin.hcl:2:12: error: Unicode normalization changes this string: U+0065 U+0301 becomes U+00E9"},
		{"p\x00l\x00u\x00g\x00i\x00n\x00 \x00{\x00}\x00", "plugin.hcl: error: the file is UTF-16LE; Convert it to UTF-8"},
		{strings.Repeat("#", 256<<10+1), "too large: it has 262145 bytes, and the limit is 256 KiB"},
		{"plugin {\n  binary = \"x\"\n}\ncluster {\n  node = \"n 0\"\n}", "plugin.hcl:5:10: error: cluster.node is \"n 0\""},
		{"plugin {\n  binary = \"x\"\n}\nplugin {\n  binary = \"y\"\n}", "plugin.hcl:4:"},
	} {
		file := filepath.Join(t.TempDir(), "plugin.hcl")
		if err := os.WriteFile(file, []byte(tc.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readSettings(file); err == nil || !strings.Contains(err.Error(), tc.words) {
			t.Errorf("%s\ngot %v, want %q", tc.text, err, tc.words)
		}
	}
	if _, err := readSettings(""); err == nil {
		t.Error("no file was accepted")
	}
	file := filepath.Join(t.TempDir(), "plugin.hcl")
	if err := os.WriteFile(file, []byte("plugin {\n  binary = \"x\"\n  sha256 = null\n  start_timeout = null\n}"),
		0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := readSettings(file); err != nil || s.Plugin.StartTimeout != 10*time.Second {
		t.Errorf("what is null is not set: %+v, %v", s, err)
	}
}
