package config

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chat-recall/recall/shared"
)

var update = flag.Bool("update", false, "write the golden files")

// render shows everything of the diagnostics that an operator gets to see.
func render(ds shared.Diagnostics) string {
	var b strings.Builder
	for _, d := range ds {
		b.WriteString(d.String() + "\n")
		if d.Line > 0 {
			b.WriteString("    " + d.Source + "\n")
		}
	}
	return b.String()
}

func TestBadFilesAreRefusedWithPlaceAndAdvice(t *testing.T) {
	files, err := filepath.Glob("testdata/*.hcl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			cfg, ds := Load(file)
			if cfg != nil || !ds.HasErrors() {
				t.Fatalf("was taken: %+v", cfg)
			}
			golden := strings.TrimSuffix(file, ".hcl") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(render(ds)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got := render(ds); got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestPathsAreRelativeToTheFile(t *testing.T) {
	cfg, ds := Parse("/etc/recall/plugin.hcl", []byte(`
		plugin { binary = "bin/recall-plugin" }
		index { path = "data/index" }
		rules { paths = ["rules.d", "/srv/rules/../more.hcl"] }
	`))
	want := &Config{IndexPath: "/etc/recall/data/index", RulePaths: []string{"/etc/recall/rules.d", "/srv/more.hcl"}}
	if len(ds) > 0 || !reflect.DeepEqual(cfg, want) {
		t.Errorf("got %+v %v, want %+v", cfg, ds, want)
	}
}

func TestWithoutRulesTheBuiltInPolicyHolds(t *testing.T) {
	cfg, ds := Parse("/p/plugin.hcl", []byte(`index { path = "i" }`))
	if len(ds) > 0 || cfg.RulePaths != nil {
		t.Errorf("got %+v %v", cfg, ds)
	}
}

func TestTheShippedFileIsGood(t *testing.T) {
	if _, ds := Load("../../../plugin.hcl"); len(ds) > 0 {
		t.Errorf("%s", render(ds))
	}
}

func TestFilesThatAreNoFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe.hcl")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(dir, "large.hcl")
	if err := os.WriteFile(large, []byte(strings.Repeat("# more\n", maxFileBytes)), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		filepath.Join(dir, "absent.hcl"): "no such file",
		dir:                              "not a regular file",
		pipe:                             "not a regular file",
		large:                            "256 KiB",
	} {
		if _, ds := Load(file); !ds.HasErrors() || !strings.Contains(render(ds), want) || !strings.Contains(render(ds), file) {
			t.Errorf("%s: got %q, want %q", file, render(ds), want)
		}
	}
}

func TestHostileFilesAreRefusedQuickly(t *testing.T) {
	for name, src := range map[string]string{
		"deep lists":  "a = " + strings.Repeat("[", 100_000),
		"deep blocks": strings.Repeat("a { ", 50_000),
		"negations":   "a = " + strings.Repeat("!", 100_000) + "true",
		"number":      "a = 1e999999999",
		"digits":      "a = " + strings.Repeat("9", 100_000),
		"utf-8":       "index { path = \"\xff\" }",
		"nul":         "index { path = \"a\x00b\" }",
	} {
		start := time.Now()
		if cfg, ds := Parse("hostile.hcl", []byte(src)); cfg != nil || !ds.HasErrors() {
			t.Errorf("%s: was taken", name)
		}
		if took := time.Since(start); took > time.Minute {
			t.Errorf("%s: took %v", name, took)
		}
	}
}

// FuzzConfig: no file makes the reader panic, and one that is refused says where.
func FuzzConfig(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.hcl")
	for _, file := range append(files, "../../../plugin.hcl") {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		cfg, ds := Parse("plugin.hcl", src)
		if (cfg == nil) != ds.HasErrors() {
			t.Fatalf("config %+v with diagnostics %v", cfg, ds)
		}
		for _, d := range ds {
			if d.File == "" || d.Summary == "" {
				t.Fatalf("a diagnostic without file or summary: %+v", d)
			}
		}
		if cfg != nil && cfg.IndexPath == "" {
			t.Fatal("a config without an index")
		}
	})
}
