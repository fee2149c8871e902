package config

import (
	"reflect"
	"testing"

	"github.com/chat-recall/recall/internal/config"
	"github.com/chat-recall/recall/shared"
)

func TestParse_View(t *testing.T) {
	t.Run("takes what the file says", func(t *testing.T) {
		c, ds := Parse("/p/plugin.hcl",
			[]byte("plugin {\n  later = 1\n}\nindex {\n  path = \"i\"\n  create = true\n}\nrules {\n  paths = [\"r\"]\n  "+
				"on_error = \"refuse\"\n}\n"))
		want := &Config{IndexPath: "/p/i", IndexCreate: true, RulePaths: []string{"/p/r"}, RefuseBrokenRules: true}
		if !reflect.DeepEqual(c, want) || ds.HasErrors() || len(ds) != 1 || ds[0].Line != 2 {
			t.Errorf("got %+v, %v; want %+v and a warning", c, ds, want)
		}
	})
	t.Run("uses the built-in policy and the last good one by default", func(t *testing.T) {
		c, ds := Parse("/p/plugin.hcl", []byte("index {\n  path = \"i\"\n}\n"))
		if want := (&Config{IndexPath: "/p/i"}); !reflect.DeepEqual(c, want) || len(ds) > 0 {
			t.Errorf("got %+v, %v", c, ds)
		}
	})
	t.Run("takes the cluster", func(t *testing.T) {
		c, ds := Parse("/p/plugin.hcl", []byte("index {\n  path = \"i\"\n}\ncluster {\n  node = \"n0\"\n  "+
			"urls = [\"tls://a\"]\n  durability = \"unchecked\"\n}\n"))
		want := &config.ClusterBlock{
			Node: "n0", URLs: []string{"tls://a"}, Stream: config.DefaultStream, Replicas: config.DefaultReplicas,
			Unchecked: true, Lease: config.DefaultLease, ForgetAfter: config.DefaultForgetAfter,
			SnapshotEntries: config.DefaultSnapshotEntries,
		}
		if c == nil || !reflect.DeepEqual(c.Cluster, want) || len(ds) != 1 || ds[0].Severity != shared.SeverityWarning {
			t.Errorf("got %+v, %v; want %+v and a warning", c, ds, want)
		}
	})
	t.Run("is nothing where a file of the cluster cannot be read", func(t *testing.T) {
		c, ds := Parse("/p/plugin.hcl", []byte("index {\n  path = \"i\"\n}\ncluster {\n  node = \"n0\"\n  "+
			"urls = [\"tls://a\"]\n  system_credentials = \"none.creds\"\n}\n"))
		const want = "cluster.system_credentials: /p/none.creds cannot be read: no such file or directory"
		if c != nil || len(ds) != 1 || ds[0].Summary != want || ds[0].Line != 7 || ds[0].Column != 24 {
			t.Errorf("got %+v, %v; want %q", c, ds, want)
		}
	})
	t.Run("is nothing where there are errors", func(t *testing.T) {
		if c, ds := Load("/nowhere/plugin.hcl"); c != nil || !ds.HasErrors() {
			t.Errorf("got %+v, %v", c, ds)
		}
	})
}
