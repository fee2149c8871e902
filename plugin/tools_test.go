package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/golden"
)

// slow is what only a hang or a blow-up takes. Hostile input takes well under a second on a machine that is at rest;
// this is no measure of speed, since tests share their machine.
const slow = time.Minute

type command func(args []string, stdout, stderr *bytes.Buffer) int

var tools = map[string]command{
	"check":   func(a []string, o, e *bytes.Buffer) int { return runCheck(a, o, e) },
	"test":    func(a []string, o, e *bytes.Buffer) int { return runTest(a, o, e) },
	"explain": func(a []string, o, e *bytes.Buffer) int { return runExplain(a, o, e) },
	"diff":    func(a []string, o, e *bytes.Buffer) int { return runDiff(a, o, e) },
	"fmt":     func(a []string, o, e *bytes.Buffer) int { return runFmt(a, o, e) },
}

// run splits a command line at spaces and returns what it exits with and prints.
func run(line string) (code int, stdout, stderr string) {
	args := strings.Fields(line)
	var o, e bytes.Buffer
	code = tools[args[0]](args[1:], &o, &e)
	return code, o.String(), e.String()
}

func TestTools_Golden(t *testing.T) {
	for _, test := range []struct {
		golden, line string
		code         int
	}{
		{"check-good", "check ../rules/default.hcl", 0},
		{"check-bad", "check testdata/rules/bad.hcl", 1},
		{"check-bad-json", "check --json testdata/rules/bad.hcl", 1},
		{"check-dead", "check testdata/rules/dead.hcl", 0},
		{"check-dead-strict", "check testdata/rules/dead.hcl --strict --json", 1},
		{"check-suspect", "check testdata/suspect", 0},
		{"check-suspect-strict", "check --strict --json testdata/suspect", 1},
		{"check-config", "check --config testdata/config/good.hcl", 0},
		{"check-config-bad", "check --config testdata/config/bad.hcl", 1},
		{"check-config-bad-json", "check --json --config testdata/config/bad.hcl", 1},
		{"check-config-strict", "check --strict --config testdata/config/suspect.hcl", 1},
		{"check-config-built-in", "check --config ../plugin.hcl", 0},
		{"check-config-cluster", "check --config testdata/config/cluster.hcl", 0},
		{"check-config-cluster-bad", "check --config testdata/config/bad-cluster.hcl", 1},
		{"test-good", "test ../rules/cookbook/wechat", 0},
		{"test-failing", "test testdata/failing", 1},
		{"test-failing-json", "test --json testdata/failing", 1},
		{"test-failing-junit", "test --junit testdata/failing", 1},
		{"explain", "explain --rules ../rules/cookbook/bank --tenant bank --type image --age 61s", 0},
		{"explain-condition",
			"explain --rules testdata/rules/conditions.hcl --conversation-labels vip,staff --actor bot-7 --sender=false " +
				"--role admin", 0},
		{"explain-bad", "explain --rules testdata/rules/bad.hcl", 1},
		{"explain-json", "explain --json --rules ../rules/cookbook/shadow-trial --case {\"age\":\"5m\"}", 0},
		{"diff", "diff ../rules/default.hcl ../rules/cookbook/moderators", 0},
		{"diff-json", "diff --exit-code --json ../rules/default.hcl ../rules/cookbook/wechat", 1},
		{"diff-same", "diff --exit-code ../rules/default.hcl ../rules/cookbook/easemob", 0},
		{"fmt-check", "fmt --check testdata/rules ../rules/cookbook/bank", 1},
	} {
		t.Run(test.golden, func(t *testing.T) {
			code, stdout, stderr := run(test.line)
			if code != test.code || stderr != "" {
				t.Errorf("exits with %d, want %d; on standard error: %s", code, test.code, stderr)
			}
			if strings.Contains(test.line, "--json") && !json.Valid([]byte(stdout)) {
				t.Error("is not JSON")
			}
			if strings.Contains(test.line, "--junit") && xml.Unmarshal([]byte(stdout), new(junitSuites)) != nil {
				t.Error("is not XML")
			}
			golden.Check(t, filepath.Join("testdata/golden", test.golden), stdout)
		})
	}
}

func TestTools_WrongUsage(t *testing.T) {
	for _, line := range []string{
		"check", "check --nonsense x", "check --config plugin.hcl rules.d", "test",
		"test --json --junit x", "diff one", "diff one two three", "fmt",
		"explain stray", "explain --case {", "explain --case {\"rol\":\"owner\"}",
		"explain --role ownr", "explain --age 8", "explain --sender=perhaps",
	} {
		code, stdout, stderr := run(line)
		if code != 2 || stdout != "" || !strings.HasPrefix(stderr, "recall-plugin "+strings.Fields(line)[0]+": ") {
			t.Errorf("%s: exits with %d, prints %q and %q", line, code, stdout, stderr)
		}
	}
}

func TestCheckConfig(t *testing.T) {
	t.Run("names what is wrong with the rules of the file", func(t *testing.T) {
		rule, err := filepath.Abs("testdata/rules/bad.hcl")
		if err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := run("check --config testdata/config/bad-rules.hcl")
		if code != 1 || stderr != "" || !strings.Contains(stdout, rule+":3:12: error: window is 8d") {
			t.Errorf("exits with %d and prints %q and %q", code, stdout, stderr)
		}
	})
	t.Run("tells as JSON what the file says", func(t *testing.T) {
		code, stdout, _ := run("check --json --config testdata/config/good.hcl")
		var got checked
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != 0 {
			t.Fatalf("exits with %d: %v\n%s", code, err, stdout)
		}
		dir, err := filepath.Abs("testdata/config")
		if err != nil {
			t.Fatal(err)
		}
		if !got.OK || got.Rules != 4 || got.Config == nil || got.Config.Index != filepath.Join(dir, "data/index") ||
			got.Config.Binary != filepath.Join(dir, "bin/recall-plugin") || len(got.Config.Rules) != 1 {
			t.Errorf("got %s", stdout)
		}
	})
	t.Run("tells as JSON which node of which cluster it is", func(t *testing.T) {
		code, stdout, _ := run("check --json --config testdata/config/cluster.hcl")
		var got checked
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != 0 {
			t.Fatalf("exits with %d: %v\n%s", code, err, stdout)
		}
		if c := got.Config.Cluster; c == nil || c.Node != "n0" || c.Stream != "RECALL" || len(c.URLs) != 3 {
			t.Errorf("got %s", stdout)
		}
	})
	t.Run("refuses a file that is not there", func(t *testing.T) {
		if code, stdout, _ := run("check --config testdata/config/none.hcl"); code != 1 ||
			!strings.Contains(stdout, "none.hcl: error: cannot be read: no such file") {
			t.Errorf("exits with %d and prints %q", code, stdout)
		}
	})
	t.Run("opens and makes nothing", func(t *testing.T) {
		if _, err := os.Stat("testdata/config/data"); !os.IsNotExist(err) {
			t.Errorf("there is an index now: %v", err)
		}
	})
}

func TestTools_Help(t *testing.T) {
	for name := range tools {
		if code, stdout, _ := run(name + " -h"); code != 0 || !strings.HasPrefix(stdout, "usage: recall-plugin "+name) ||
			!strings.Contains(stdout, "-json") {
			t.Errorf("%s -h exits with %d and prints %q", name, code, stdout)
		}
	}
}

func TestTools_UnusableFiles(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(dir, "deep.hcl")
	os.WriteFile(deep, []byte("permit \"a\" { when = "+strings.Repeat("(", 100_000)), 0o644)
	empty := filepath.Join(dir, "empty")
	os.Mkdir(empty, 0o755)
	for _, path := range []string{deep, empty, filepath.Join(dir, "missing")} {
		for _, line := range []string{"check ", "check --json ", "test ", "explain --rules ", "diff ../rules/default.hcl ",
			"fmt ", "fmt --check --json "} {
			start := time.Now()
			code, stdout, stderr := run(line + path)
			if code != 1 || stderr != "" || !strings.Contains(stdout, path) {
				t.Errorf("%s%s exits with %d, prints %.200q and %q", line, path, code, stdout, stderr)
			}
			if took := time.Since(start); took > slow {
				t.Errorf("%s%s took %v", line, path, took)
			}
		}
	}
}

func TestFmt_KeepsMode(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.hcl")
	os.WriteFile(file, []byte("permit \"a\" {\nsender=true\n}"), 0o640)
	os.Chmod(file, 0o640)
	if code, stdout, _ := run("fmt " + file); code != 0 || stdout != file+"\n" {
		t.Errorf("exits with %d and prints %q", code, stdout)
	}
	text, _ := os.ReadFile(file)
	info, _ := os.Stat(file)
	if string(text) != "permit \"a\" {\n  sender = true\n}\n" || info.Mode().Perm() != 0o640 {
		t.Errorf("the file is now %v %q", info.Mode(), text)
	}
	if code, stdout, _ := run("fmt --check " + file); code != 0 || stdout != "" {
		t.Errorf("a second time it exits with %d and prints %q", code, stdout)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestFmt_BadFileAmongOthers(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.hcl"), filepath.Join(dir, "bad.hcl")
	os.WriteFile(good, []byte("permit \"a\" {\nsender=true\n}"), 0o600)
	os.WriteFile(bad, []byte("permit {{{"), 0o600)
	code, stdout, _ := run("fmt --json " + bad + " " + good)
	var out struct {
		OK          bool
		Changed     []string
		Diagnostics []struct{ File string }
	}
	if err := json.Unmarshal([]byte(stdout), &out); err != nil || code != 1 || out.OK ||
		!slices.Equal(out.Changed, []string{good}) || len(out.Diagnostics) == 0 || out.Diagnostics[0].File != bad {
		t.Errorf("exits with %d and prints %s", code, stdout)
	}
	os.WriteFile(good, []byte("permit \"a\" {\nsender=true\n}"), 0o600)
	if code, stdout, _ := run("fmt " + bad + " " + good); code != 1 || !strings.HasPrefix(stdout, good+"\n"+bad+":") {
		t.Errorf("exits with %d and prints %s", code, stdout)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestPerform_WriteError(t *testing.T) {
	for _, args := range [][]string{{"check", "../rules/default.hcl"}, {"version"}, {"help"}} {
		var stderr bytes.Buffer
		if code := perform(args, full{}, &stderr); code != 1 || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("%s exits with %d and says %s", args, code, &stderr)
		}
	}
}
