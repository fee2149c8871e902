package host_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

func TestState_ChangedConfigurationIsPending(t *testing.T) {
	dir, binary := t.TempDir(), hosttest.BuildPlugin(t)
	if err := os.WriteFile(filepath.Join(dir, "rules.hcl"), []byte(anyone), 0o600); err != nil {
		t.Fatal(err)
	}
	const rules = "rules {\n  paths = [\"rules.hcl\"]\n}\n"
	file := hosttest.WriteConfig(t, binary, dir, rules)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	states := make(chan host.State, 1000)
	h := hosttest.Open(t, host.Config{File: file, OnState: func(s host.State) { states <- s }})
	put := func(old, by string) {
		t.Helper()
		if !strings.Contains(string(good), old) {
			t.Fatalf("%q is not in the file", old)
		}
		if err := os.WriteFile(file, []byte(strings.Replace(string(good), old, by, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reload := func() shared.Diagnostics {
		t.Helper()
		ds, err := h.Reload(within(t))
		if err != nil {
			t.Fatal(err)
		}
		if got := h.State().Pending; fmt.Sprint(got) != fmt.Sprint(ds) {
			t.Errorf("Reload says %v and State %v", ds, got)
		}
		return ds
	}
	if ds := reload(); len(ds) > 0 {
		t.Fatalf("an unchanged file: %v", ds)
	}
	other := filepath.Join(dir, "other")
	for name, c := range map[string]struct{ old, by, want, how string }{
		"the binary": {binary, other, fmt.Sprintf("plugin.binary is %q, and %q is in force", other, binary),
			"restart of the server"},
		"its checksum": {"plugin {", "plugin {\n  sha256 = \"" + strings.Repeat("AB", 32) + "\"",
			"plugin.sha256 is \"" + strings.Repeat("ab", 32), "upgrade"},
		"the start timeout": {"plugin {", "plugin {\n  start_timeout = \"11s\"",
			`plugin.start_timeout is "11s", and "10s" is in force`, "restart the server"},
		"watch": {"plugin {", "plugin {\n  watch = true", "plugin.watch is true, and false is in force",
			"restart the server"},
		"the index": {`"index"`, `"elsewhere"`, fmt.Sprintf("index.path is %q, and %q is in force", filepath.Join(dir,
			"elsewhere"), filepath.Join(dir, "index")), "Stop the server"},
		"create": {`"index"`, "\"index\"\n  create = true", "index.create is true, and false is in force",
			"upgrade"},
		"other rules": {"rules.hcl", "more.hcl", fmt.Sprintf("rules.paths is [%q], and [%q] is in force",
			filepath.Join(dir, "more.hcl"), filepath.Join(dir, "rules.hcl")), "upgrade"},
		"no rules": {rules, "", "rules.paths is the built-in policy, and [", "upgrade"},
		"on_error": {"  paths", "  on_error = \"refuse\"\n  paths",
			`rules.on_error is "refuse", and "last_good" is in force`, "upgrade"},
		"a mistake": {"index {", "index {\n  pth = 1",
			"will be refused when the server or a plugin starts: a block \"index\" has no \"pth\"", "path, create"},
		"a file of the cluster": {"index {", "cluster {\n  node = \"n0\"\n  urls = [\"tls://a\"]\n" +
			"  system_credentials = \"none.creds\"\n}\nindex {",
			"will be refused when the server or a plugin starts: cluster.system_credentials: ", "able to read it"},
		"a cluster": {"index {", "cluster {\n  node = \"n0\"\n  urls = [\"tls://a\"]\n" +
			"  durability = \"unchecked\"\n}\nindex {",
			`cluster is "node \"n0\" of the stream \"RECALL\"", and "a single machine" is in force`, "Stop the server"},
		"its own mistake": {"plugin {", "plugin {\n  later = 1",
			"will be refused when the server starts: a block \"plugin\" has no \"later\"", "watch"},
	} {
		t.Run(name, func(t *testing.T) {
			put(c.old, c.by)
			ds := reload()
			if len(ds) != 1 || ds[0].Severity != shared.SeverityWarning || ds[0].File != file ||
				!strings.Contains(ds[0].Summary, c.want) || !strings.Contains(ds[0].Detail, c.how) {
				t.Errorf("got %v, want a warning with %q and %q", ds, c.want, c.how)
			}
		})
	}
	t.Run("appears without a call of Reload", func(t *testing.T) {
		put("rules.hcl", "rules.hcl")
		reload()
		put("  paths", "  on_error = \"refuse\"\n  paths")
		limit := time.After(time.Minute)
		for told := false; !told; {
			select {
			case s := <-states:
				told = len(s.Pending) == 1 && strings.Contains(s.Pending[0].Summary, "rules.on_error")
			case <-limit:
				t.Fatalf("State still says %v", h.State().Pending)
			}
		}
	})
	t.Run("is in force after an upgrade to the same binary", func(t *testing.T) {
		if _, err := h.Upgrade(within(t), host.Binary{Path: binary}); err != nil {
			t.Fatal(err)
		}
		if ds := reload(); len(ds) > 0 {
			t.Errorf("got %v", ds)
		}
	})
	t.Run("tells that another binary than the one in the file is in force", func(t *testing.T) {
		data, err := os.ReadFile(binary)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(other, data, 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Upgrade(within(t), host.Binary{Path: other}); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("plugin.binary is %q, and %q is in force", binary, other)
		if ds := reload(); len(ds) != 1 || !strings.Contains(ds[0].Summary, want) {
			t.Errorf("got %v, want %q", ds, want)
		}
	})
}
