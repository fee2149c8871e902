package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/golden"
	"github.com/chat-recall/recall/internal/hclfile"
)

// render shows everything of the diagnostics that an operator gets to see.
func render(found hclfile.Diagnostics) string {
	var b strings.Builder
	for _, d := range Diagnostics(found) {
		b.WriteString(d.String() + "\n")
		if d.Line > 0 {
			b.WriteString("    " + d.Source + "\n")
		}
	}
	return b.String()
}

func TestLoad_BadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.hcl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			f, ds := Whole.Load(file)
			if f != nil || !ds.HasErrors() {
				t.Fatalf("was taken: %+v", f)
			}
			golden.Check(t, strings.TrimSuffix(file, ".hcl")+".golden", render(ds))
		})
	}
}

func TestParse_WholeFile(t *testing.T) {
	f, ds := Whole.Parse("/etc/recall/plugin.hcl", []byte(`
		plugin {
			binary        = "bin/recall-plugin"
			sha256        = "`+strings.Repeat("Ab", 32)+`"
			start_timeout = "1m30s"
			watch         = true
		}
		index {
			path   = "data/index"
			create = true
		}
		rules {
			paths    = ["rules.d", "/srv/rules/../more.hcl", "./~", "./$x", "a~b"]
			on_error = "refuse"
		}
	`))
	want := &File{
		Plugin: PluginBlock{
			Binary: "/etc/recall/bin/recall-plugin", SHA256: strings.Repeat("Ab",
				32), StartTimeout: 90 * time.Second, Watch: true,
		},
		Index: IndexBlock{Path: "/etc/recall/data/index", Create: true},
		Rules: RulesBlock{
			Paths:   []string{"/etc/recall/rules.d", "/srv/more.hcl", "/etc/recall/~", "/etc/recall/$x", "/etc/recall/a~b"},
			OnError: OnErrorRefuse,
		},
	}
	if len(ds) > 0 || !reflect.DeepEqual(f, want) {
		t.Errorf("got %+v %v, want %+v", f, ds, want)
	}
}

func TestParse_Defaults(t *testing.T) {
	for name, text := range map[string]string{
		"what is not set": `plugin { binary = "b" }`,
		"what is null":    "plugin {\n binary = \"b\"\n sha256 = null\n start_timeout = null\n watch = null\n}",
	} {
		f, ds := Whole.Parse("/p/plugin.hcl", []byte(text+"\nindex {\n path = \"i\"\n create = null\n}\n"))
		want := &File{
			Plugin: PluginBlock{Binary: "/p/b", StartTimeout: DefaultStartTimeout},
			Index:  IndexBlock{Path: "/p/i"}, Rules: RulesBlock{OnError: OnErrorLastGood},
		}
		if len(ds) > 0 || !reflect.DeepEqual(f, want) {
			t.Errorf("%s: got %+v %v, want %+v", name, f, ds, want)
		}
	}
}

func TestLoad_ShippedFile(t *testing.T) {
	if _, ds := Whole.Load("../../plugin.hcl"); len(ds) > 0 {
		t.Errorf("%s", render(ds))
	}
}

// One file says the same to the host and to the plugin, but for what each must find, for the host's own block, and for
// the files of a cluster, which only the plugin opens.
func TestViews_SameVerdict(t *testing.T) {
	const index = "index {\n  path = \"i\"\n}\n"
	for name, c := range map[string]struct{ text, want string }{
		"plain": {"plugin {\n  binary = \"b\"\n}\n" + index, ""},
		"a template": {"plugin {\n  binary = \"b${1+1}\"\n}\n" + index,
			`plugin.hcl:2:14: error: "${" is not part of plugin.hcl`},
		"a heredoc":       {"plugin {\n  binary = <<E\nb\nE\n}\n" + index, "plugin.hcl:2:12: error: "},
		"a large comment": {"#" + strings.Repeat("x", 40<<10) + "\nplugin {\n  binary = \"b\"\n}\n" + index, ""},
		"above the limit": {"#" + strings.Repeat("x", 256<<10) + "\n", "plugin.hcl: error: cannot be read: it is too large"},
		"an index path":   {"plugin {\n  binary = \"b\"\n}\nindex {\n  path = \"i${1}\"\n}\n", "plugin.hcl:5:12: error: "},
		"a typo in index": {"plugin {\n  binary = \"b\"\n}\nindex {\n  path = \"i\"\n  pth = \"i\"\n}\n",
			`plugin.hcl:6:3: error: a block "index" has no "pth"`},
		"NFC": {"plugin {\n  binary = \"cafe\u0301\"\n}\n" + index,
			"plugin.hcl:2:12: error: Unicode normalization changes this string: U+0065 U+0301"},
		"a home": {"plugin {\n  binary = \"b\"\n}\nindex {\n  path = \"~/i\"\n}\n",
			"plugin.hcl:5:10: error: index.path begins with ~, which only a shell replaces"},
		"somebody's home": {"plugin {\n  binary = \"b\"\n}\nindex {\n  path = \"~ann/i\"\n}\n",
			"index.path begins with ~ann, which only a shell replaces"},
		"a variable": {"plugin {\n  binary = \"b\"\n}\nindex {\n  path = \"$HOME/i\"\n}\n",
			"index.path begins with $HOME, which only a shell replaces"},
		"a rules' home": {"plugin {\n  binary = \"b\"\n}\n" + index + "rules {\n  paths = [\"~/r\"]\n}\n",
			"plugin.hcl:8:12: error: rules.paths begins with ~"},
		"two blocks": {"plugin {\n  binary = \"b\"\n}\n" + index + index,
			`plugin.hcl:7:1: error: there is a block "index" already in line 4`},
		"UTF-16": {"\xff\xfep\x00l\x00", "plugin.hcl: error: the file is UTF-16"},
		"an unknown block": {"plugin {\n  binary = \"b\"\n}\n" + index + "indx {\n}\n",
			`plugin.hcl:7:1: error: there is no block "indx"`},
		"a word": {"plugin {\n  binary = \"b\"\n}\n" + index +
			"rules {\n  paths = [\"r\"]\n  on_error = \"ignore\"\n}\n", "plugin.hcl:9:14: error: rules.on_error is \"ignore\""},
		"a cluster": {string(inCluster(`node = "n/0"`, `urls = ["tls://a"]`,
			`system_credentials = "testdata/values.hcl"`)), "plugin.hcl:8:10: error: cluster.node is \"n/0\""},
	} {
		t.Run(name, func(t *testing.T) {
			host, hostSays := Host.Parse("plugin.hcl", []byte(c.text))
			plugin, pluginSays := Plugin.Parse("plugin.hcl", []byte(c.text))
			if !reflect.DeepEqual(host, plugin) || !reflect.DeepEqual(hostSays, pluginSays) {
				t.Errorf("the host says %s and the plugin %s", render(hostSays), render(pluginSays))
			}
			if len(hostSays) > 1 || hostSays.HasErrors() != (c.want != "") || !strings.Contains(render(hostSays), c.want) {
				t.Errorf("got %s, want only %q", render(hostSays), c.want)
			}
		})
	}
}

func TestPluginView_MistakeInTheBlockOfTheHost(t *testing.T) {
	const text = "plugin {\n  sha256 = \"zz\"\n  later = true\n  watch = \"yes\"\n  start_timeout = 10\n  more {\n  " +
		"}\n}\nindex {\n  path = \"/i\"\n}\n"
	if f, ds := Host.Parse("plugin.hcl", []byte(text)); f != nil || !ds.HasErrors() {
		t.Errorf("the host takes %+v %v", f, ds)
	}
	f, ds := Plugin.Parse("plugin.hcl", []byte(text))
	if f == nil || f.Index.Path != "/i" || ds.HasErrors() || len(ds) != 5 {
		t.Errorf("the plugin takes %+v with %s", f, render(ds))
	}
}

func TestLoad_NotAFile(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe.hcl")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(dir, "large.hcl")
	if err := os.WriteFile(large, []byte(strings.Repeat("# more\n", 256<<10)), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		filepath.Join(dir, "absent.hcl"): "no such file",
		dir:                              "not a regular file",
		pipe:                             "not a regular file",
		large:                            "too large: it has 1835008 bytes, and the limit is 256 KiB (262144 bytes)",
	} {
		if _, ds := Whole.Load(file); !ds.HasErrors() || !strings.Contains(render(ds), want) ||
			!strings.Contains(render(ds), file) {
			t.Errorf("%s: got %q, want %q", file, render(ds), want)
		}
	}
}

func TestParse_HostileFiles(t *testing.T) {
	for name, src := range map[string]string{
		"deep lists":  "a = " + strings.Repeat("[", 100_000),
		"deep blocks": strings.Repeat("a { ", 50_000),
		"negations":   "a = " + strings.Repeat("!", 100_000) + "true",
		"number":      "a = 1e999999999",
		"digits":      "a = " + strings.Repeat("9", 100_000),
		"utf-8":       "index { path = \"\xff\" }",
		"nul":         "index { path = \"a\x00b\" }",
		"nul escaped": "index { path = \"a\\u0000b\" }",
	} {
		start := time.Now()
		if f, ds := Plugin.Parse("hostile.hcl", []byte(src)); f != nil || !ds.HasErrors() {
			t.Errorf("%s: was taken", name)
		}
		if took := time.Since(start); took > time.Minute {
			t.Errorf("%s: took %v", name, took)
		}
	}
}

// FuzzParse: no file makes the reader panic, one that is refused says where, the plugin takes what the host takes, and
// what is written of it says the same.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.hcl")
	for _, file := range append(files, "../../plugin.hcl") {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Add(inCluster(`node = "n0"`, `urls = ["tls://a:4222", "nats://[::1]"]`, `durability = "unchecked"`, `replicas = 5`,
		`lease = "3s"`, `ca = "testdata"`))
	f.Fuzz(func(t *testing.T, src []byte) {
		whole, ds := Whole.Parse("plugin.hcl", src)
		if (whole == nil) != ds.HasErrors() {
			t.Fatalf("file %+v with diagnostics %v", whole, ds)
		}
		for _, d := range ds {
			if d.File == "" || d.Summary == "" {
				t.Fatalf("a diagnostic without file or summary: %+v", d)
			}
		}
		host, _ := Host.Parse("plugin.hcl", src)
		if host != nil && host.Index.Path != "" {
			if again, ds := Host.Parse("plugin.hcl", host.Text()); !reflect.DeepEqual(again, host) {
				t.Fatalf("written as\n%s\n%s", host.Text(), ds)
			}
		}
		if whole == nil {
			return
		}
		plugin, _ := Plugin.Parse("plugin.hcl", src)
		if !reflect.DeepEqual(whole, host) || !reflect.DeepEqual(whole, plugin) || whole.Index.Path == "" ||
			whole.Plugin.Binary == "" {
			t.Fatalf("whole %+v, host %+v, plugin %+v", whole, host, plugin)
		}
	})
}

func TestKeepMessages(t *testing.T) {
	parse := func(value string) (*File, string) {
		f, ds := Whole.Parse("/p/plugin.hcl", []byte("plugin {\n binary = \"b\"\n}\nindex {\n path = \"i\"\n"+
			" keep_messages = "+value+"\n}\n"))
		return f, ds.String()
	}
	for text, want := range map[string]time.Duration{
		`"400d"`: 400 * day, `"7d"`: 7 * day, `"168h"`: 7 * day, `"36500d"`: 36500 * day, "null": 0,
	} {
		if f, ds := parse(text); f == nil || f.Index.KeepMessages != want {
			t.Errorf("%s: %+v %s", text, f, ds)
		}
	}
	for _, text := range []string{
		`"6d"`, `"167h"`, `"36501d"`, `"1.5d"`, `"-7d"`, `"99999999999999999999d"`, `"400"`, `"d"`, `"x"`, "400",
	} {
		if f, ds := parse(text); f != nil || !strings.Contains(ds, "keep_messages") {
			t.Errorf("%s: %+v %s", text, f, ds)
		}
	}
}
