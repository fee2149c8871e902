package lang

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/chat-recall/recall/internal/golden"
	"github.com/chat-recall/recall/internal/hclfile"
)

func TestLoad_BadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.hcl")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			p, diags := Load(file)
			if p != nil || !diags.HasErrors() {
				t.Fatal("a bad file was loaded")
			}
			golden.Check(t, strings.TrimSuffix(file, ".hcl")+".golden", filepath.ToSlash(diags.String()))
		})
	}
}

func TestLoad_Directory(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"20-b.hcl":      `permit "second" { sender = true }`,
		"10-a.hcl":      `permit "first" { sender = true }`,
		"15-x.test.hcl": `this is not a rule file`,
		".hidden.hcl":   `nor this`,
		"README":        `nor this`,
	} {
		write(t, filepath.Join(dir, name), text)
	}
	p, diags := Load(dir)
	if p == nil {
		t.Fatal(diags)
	}
	if len(p.Rules) != 2 || p.Rules[0].Ref.Name != "first" || p.Rules[1].Ref.Name != "second" {
		t.Errorf("rules are %v", p.Rules)
	}
	again, _ := Load(filepath.Join(dir, "10-a.hcl"), filepath.Join(dir, "20-b.hcl"))
	if again == nil || again.Digest != p.Digest {
		t.Error("the same files named one by one have another digest")
	}
	write(t, filepath.Join(dir, "20-b.hcl"), `permit "second" { sender = false }`)
	if changed, _ := Load(dir); changed == nil || changed.Digest == p.Digest {
		t.Error("a changed file kept the digest")
	}
}

func TestLoad_OneBadFile(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.hcl"), `permit "a" { sender = true }`)
	write(t, filepath.Join(dir, "b.hcl"), `permit "b" { sendr = true }`)
	if p, diags := Load(dir); p != nil || !diags.HasErrors() {
		t.Errorf("part of a policy was loaded: %v", diags)
	}
}

func TestLoad_UnreadableFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, make := range map[string]func(string) error{
		"directory": func(p string) error { return os.MkdirAll(filepath.Join(p, "x.hcl"), 0o755) },
		"fifo":      func(p string) error { os.Mkdir(p, 0o755); return syscall.Mkfifo(filepath.Join(p, "x.hcl"), 0o644) },
		"loop":      func(p string) error { os.Mkdir(p, 0o755); return os.Symlink("x.hcl", filepath.Join(p, "x.hcl")) },
		"dangling":  func(p string) error { os.Mkdir(p, 0o755); return os.Symlink("nowhere", filepath.Join(p, "x.hcl")) },
		"device":    func(p string) error { os.Mkdir(p, 0o755); return os.Symlink("/dev/zero", filepath.Join(p, "x.hcl")) },
		"empty":     func(p string) error { return os.Mkdir(p, 0o755) },
		"only_tests": func(p string) error {
			os.Mkdir(p, 0o755)
			return os.WriteFile(filepath.Join(p, "x.test.hcl"), nil, 0o644)
		},
		"missing":      func(string) error { return nil },
		"large":        func(p string) error { return os.WriteFile(p, make256KiB(1), 0o644) },
		"whole_socket": func(p string) error { return syscall.Mkfifo(p, 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := make(at(name)); err != nil {
				t.Fatal(err)
			}
			if p, diags := Load(at(name)); p != nil || !diags.HasErrors() {
				t.Errorf("was loaded with diagnostics %q", diags)
			} else if !strings.Contains(diags.String(), at(name)) {
				t.Errorf("does not name the file: %s", diags)
			}
		})
	}
	if p, diags := Load(); p != nil || !diags.HasErrors() {
		t.Errorf("no paths were loaded: %q", diags)
	}
}

func TestLoad_InvalidFileName(t *testing.T) {
	for name, shown := range map[string]string{"caf\xe9.hcl": "caf?.hcl", "\x1b[2J.hcl": "?[2J.hcl"} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, name), `permit "a" { sendr = true }`)
		p, diags := Load(dir)
		if p != nil || !diags.HasErrors() || diags[0].File != filepath.Join(dir, shown) {
			t.Errorf("%q: %v", name, diags)
		}
		write(t, filepath.Join(dir, name), `permit "a" { sender = true }`)
		if p, diags := Load(dir); (p == nil) != !utf8.ValidString(name) {
			t.Errorf("%q, a good one: %v", name, diags)
		}
	}
}

func TestLoad_SymbolicLink(t *testing.T) {
	dir := t.TempDir() // as Kubernetes mounts a ConfigMap
	os.Mkdir(filepath.Join(dir, "..2026"), 0o755)
	write(t, filepath.Join(dir, "..2026", "a.hcl"), `permit "a" { sender = true }`)
	os.Symlink("..2026", filepath.Join(dir, "..data"))
	os.Symlink("..data/a.hcl", filepath.Join(dir, "a.hcl"))
	if p, diags := Load(dir); p == nil {
		t.Error(diags)
	}
}

func TestParse_HostileInput(t *testing.T) {
	many := strings.Repeat
	for name, text := range map[string]string{
		"deep brackets":  `permit "a" { tenant = ` + many("[", 100_000),
		"deep parens":    `permit "a" { sender = ` + many("(", 65) + "true" + many(")", 65) + ` }`,
		"false closers":  "a = 1" + many("]", 90_000) + "\nb = " + many("(", 90_000) + "1",
		"wrong closers":  `permit "a" { sender = ` + many("(]", 80_000) + ` }`,
		"deep blocks":    many(`permit "a" { `, 10_000),
		"not not not":    `permit "a" { sender = ` + many("!", 200_000) + `true }`,
		"and and and":    `permit "a" { sender = true` + many(" && true", 20_000) + ` }`,
		"ternaries":      `permit "a" { sender = ` + many("true ? ", 20_000) + ` }`,
		"splats":         `permit "a" { sender = a` + many("[*]", 50_000) + ` }`,
		"minus":          `permit "a" { sender = ` + many("-", 200_000) + `1 }`,
		"template ifs":   `permit "a" { tenant = ["` + many("%{ if a }", 20_000) + `"] }`,
		"interpolations": `permit "a" { tenant = [` + many(`"${`, 20_000) + ` }`,
		"labels":         `permit ` + many(`"a" `, 60_000) + `{ }`,
		"indexes":        `permit "a" { sender = a` + many("[0]", 60_000) + ` }`,
		"attributes":     `permit "a" { sender = a` + many(".b", 100_000) + ` }`,
		"large exponent": `permit "a" { sender = 1e999999999 }`,
		"errors":         many("x\n", 100_000),
		"unknown words":  `permit "a" { role = [` + many(`"admim",`, 20_000) + `] }`,
		"unknown blocks": many("permt \"a\" {}\n", 15_000),
		"many rules":     many("permit \"a\" {}\n", 15_000),
		"long name":      `permit "` + many("a", 200_000) + `" { sender = true }`,
		"local chain":    "locals {\n" + chain(10_000) + "}\npermit \"a\" { when = local.a0 }",
		"local nots": "locals {\n" + strings.ReplaceAll(chain(6), "local", many("!", 200)+"local") +
			"a6 = actor.is_sender\n}\npermit \"a\" { when = local.a0 }",
		"no such local": "locals {\n" + chain(999) + "a999 = \"x\"\n}\npermit \"a\" { when = local.x" +
			many(" || local.x\n}\npermit \"a\" { when = local.y", 5_000) + "}",
		"quotes":    many(`"`, 200_000),
		"nul":       "permit \"a\" { tenant = [\"\x00\"] }\x00",
		"bom":       "\xef\xbb\xbfpermit \"a\" { sender = tru }",
		"too large": string(make256KiB(1)),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			p, diags := parse("hostile.hcl", []byte(text))
			if p != nil || !diags.HasErrors() {
				t.Fatalf("was loaded: %s", diags)
			}
			_ = diags.String()
			if took := time.Since(start); took > slow {
				t.Errorf("took %v", took)
			}
		})
	}
}

// allocated returns how many bytes and objects are allocated to load text.
func allocated(t *testing.T, text string) (bytes, objects uint64) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	mustParse(t, text)
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, after.Mallocs - before.Mallocs
}

func TestParse_ConditionTextNotCopied(t *testing.T) {
	long := strings.Repeat("x", 200_000)
	one, _ := allocated(t, "permit \"a\" { when = tenant == \""+long+"\" }")
	many, _ := allocated(t, "permit \"a\" { when = "+strings.Repeat("!", 250)+"(tenant == \""+long+"\") }")
	if many > 2*one {
		t.Errorf("a condition in 250 others takes %d bytes, alone %d", many, one)
	}
}

func TestParse_ChainOfLocals(t *testing.T) {
	objects := func(n int) uint64 {
		_, objects := allocated(t, fmt.Sprintf("locals {\n%sa%d = \"x\"\n}\npermit \"a\" { when = tenant == local.a0 }",
			chain(n), n))
		return objects
	}
	if few, many := objects(99), objects(990); many > 20*few {
		t.Errorf("a chain of 990 takes %d objects, one of 99 takes %d", many, few)
	}
}

func TestParse_DiagnosticsBounded(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, "locals {\n  x = \"%s\"\n}\n", strings.Repeat("\x01", 200_000))
	for i := range hclfile.MaxDiagnostics {
		fmt.Fprintf(&b, "permit \"p%d\" {\n  type = [local.x]\n}\n", i)
	}
	_, diags := parse("rules.hcl", []byte(b.String()))
	if n := len(diags.String()); len(diags) != hclfile.MaxDiagnostics || n > 10*b.Len() {
		t.Errorf("%d diagnostics of %d bytes for a file of %d", len(diags), n, b.Len())
	}
}

// chain returns n locals, each of which refers to the next.
func chain(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "a%d = local.a%d\n", i, i+1)
	}
	return b.String()
}

func make256KiB(more int) []byte {
	return []byte(fmt.Sprintf("permit \"a\" { sender = true }\n#%s\n", strings.Repeat("x", 256<<10+more)))
}

func TestLoad_FilesThatLookLikeRules(t *testing.T) {
	for name, skipped := range map[string]bool{
		"HOLD.HCL": true, "Hold.hcl ": true, "a.hcl.json": true, "a.hcl.txt": true, "a.hcl.1": true, "x.Test.Hcl": true,
		"b.hcl": false, "b.test.hcl": false, "x.hcl~": false, "x.hcl.bak": false, "x.hcl.rpmsave": false, ".x.hcl.swp": false,
		"x.hcl.off": false, "#x.hcl#": false, "notes.md": false, "hcl": false, ".HIDDEN.HCL": false, "x.hcl.": true,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "a.hcl"), `permit "own" { sender = true }`)
			write(t, filepath.Join(dir, name), `permit "other" { sender = true }`)
			p, diags := Load(dir)
			if p == nil {
				t.Fatal(diags)
			}
			if warned := len(diags) == 1 && diags[0].File == filepath.Join(dir, name) &&
				diags[0].Severity == hclfile.Warning; warned != skipped || len(diags) > 1 {
				t.Errorf("got %s", diags)
			}
		})
	}
	t.Run("are named where there is nothing else", func(t *testing.T) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "A.HCL"), `permit "own" { sender = true }`)
		if p, diags := Load(dir); p != nil || !strings.Contains(diags.String(), "A.HCL: warning: this file is skipped") {
			t.Errorf("got %s", diags)
		}
	})
}
