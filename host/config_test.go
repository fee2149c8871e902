package host

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/config"
	"github.com/chat-recall/recall/shared"
)

// inGo returns a configuration in Go of a node of a cluster.
func inGo(change func(*ClusterConfig)) Config {
	c := Config{
		Plugin: PluginConfig{Binary: "/bin/recall-plugin"}, Index: IndexConfig{Path: "/data/index"},
		Cluster: ClusterConfig{Node: "n0", URLs: []string{"tls://10.0.0.1:4222"}, SystemCredentials: "/etc/sys.creds"},
	}
	change(&c.Cluster)
	return c
}

func TestConfig_ClusterInGo(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, c := range map[string]struct {
		change func(*ClusterConfig)
		want   *config.ClusterBlock
	}{
		"no cluster": {func(c *ClusterConfig) { *c = ClusterConfig{} }, nil},
		"the defaults": {func(*ClusterConfig) {}, &config.ClusterBlock{
			Node: "n0", URLs: []string{"tls://10.0.0.1:4222"}, Stream: "RECALL", Replicas: 3,
			SystemCredentials: "/etc/sys.creds", Lease: 15 * time.Second, ForgetAfter: 24 * time.Hour, SnapshotEntries: 200_000,
		}},
		"everything": {func(c *ClusterConfig) {
			*c = ClusterConfig{
				Node: "n1", URLs: []string{"tls://a", "nats://b:1"}, Stream: "CHAT", Replicas: 5, Credentials: "recall.creds",
				SystemCredentials: "sys.creds", CA: "ca.pem", Cert: "/etc/n1.pem", Key: "n1.key", Lease: 10 * time.Minute,
				ForgetAfter: time.Minute, SnapshotEntries: 1000,
			}
		}, &config.ClusterBlock{
			Node: "n1", URLs: []string{"tls://a", "nats://b:1"}, Stream: "CHAT", Replicas: 5,
			Credentials: filepath.Join(dir, "recall.creds"), SystemCredentials: filepath.Join(dir, "sys.creds"),
			CA: filepath.Join(dir, "ca.pem"), Cert: "/etc/n1.pem", Key: filepath.Join(dir, "n1.key"),
			Lease: 10 * time.Minute, ForgetAfter: time.Minute, SnapshotEntries: 1000,
		}},
		"unchecked": {func(c *ClusterConfig) { c.SystemCredentials, c.Unchecked = "", true }, &config.ClusterBlock{
			Node: "n0", URLs: []string{"tls://10.0.0.1:4222"}, Stream: "RECALL", Replicas: 3, Unchecked: true,
			Lease: 15 * time.Second, ForgetAfter: 24 * time.Hour, SnapshotEntries: 200_000,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			in := inGo(c.change)
			f, err := in.plan()
			if err != nil {
				t.Fatal(err)
			}
			// What the host and the plugin read is what was written. The paths are absolute, wherever the file is.
			read, ds := config.Host.Parse("/run/plugin.hcl", f.Text())
			if read == nil || !reflect.DeepEqual(read.Cluster, c.want) {
				t.Errorf("%s\ngot %+v %v, want %+v", f.Text(), read, ds, c.want)
			}
		})
	}
}

func TestConfig_WrongClusterInGo(t *testing.T) {
	for _, c := range []struct {
		field  string
		change func(*ClusterConfig)
		want   string
	}{
		{"Node", func(c *ClusterConfig) { c.Node = "" }, "is empty: name this node"},
		{"Node", func(c *ClusterConfig) { c.Node = "n 0" }, `is "n 0"; a name is 1 to 64 letters`},
		{"Node", func(c *ClusterConfig) { *c = ClusterConfig{Lease: time.Minute} }, "is empty: name this node"},
		{"URLs", func(c *ClusterConfig) { c.URLs = nil }, "is empty: name the NATS servers"},
		{"URLs", func(c *ClusterConfig) { c.URLs = make([]string, 17) }, "has 17 servers; 1 to 16"},
		{"URLs[1]", func(c *ClusterConfig) { c.URLs = append(c.URLs, "10.0.0.2") }, "is not the address of a server"},
		{"URLs[0]", func(c *ClusterConfig) { c.URLs = []string{"tls://a:b@c"} }, "holds a user or a password"},
		{"URLs[0]", func(c *ClusterConfig) { c.URLs = []string{"tls://\xff"} }, "is not the address of a server"},
		{"Stream", func(c *ClusterConfig) { c.Stream = "A.B" }, `is "A.B"; a name is 1 to 64 letters`},
		{"Replicas", func(c *ClusterConfig) { c.Replicas = 2 }, "is 2; 1, 3 or 5"},
		{"Replicas", func(c *ClusterConfig) { c.Replicas = -1 }, "is -1; 1, 3 or 5"},
		{"Lease", func(c *ClusterConfig) { c.Lease = time.Second }, "is 1s; 3s to 10m0s"},
		{"ForgetAfter", func(c *ClusterConfig) { c.ForgetAfter = -1 }, "is -1ns; 1m0s to 720h0m0s"},
		{"SnapshotEntries", func(c *ClusterConfig) { c.SnapshotEntries = 999 }, "is 999; 1000 to 100000000"},
		{"SystemCredentials", func(c *ClusterConfig) { c.SystemCredentials = "" }, "is empty: only the system account"},
		{"Unchecked", func(c *ClusterConfig) { c.Unchecked = true }, "is unchecked, and there are system credentials"},
		{"Key", func(c *ClusterConfig) { c.Cert = "/etc/n0.pem" }, "is empty, and the certificate of the client is set"},
		{"Cert", func(c *ClusterConfig) { c.Key = "/etc/n0.key" }, "is empty, and the key of the client is set"},
		// paths that plugin.hcl could not say, or would say of another file
		{"Credentials", func(c *ClusterConfig) { c.Credentials = "a\xff" }, "not valid UTF-8"},
		{"SystemCredentials", func(c *ClusterConfig) { c.SystemCredentials = "~/sys.creds" }, "begins with ~"},
		{"CA", func(c *ClusterConfig) { c.CA = "cafe\u0301" }, "not in Unicode NFC"},
		{"Cert", func(c *ClusterConfig) { c.Cert, c.Key = "a\x00", "b" }, "has a NUL byte"},
		{"Key", func(c *ClusterConfig) { c.Cert, c.Key = "a", "$HOME/b" }, "begins with $HOME"},
	} {
		t.Run(c.field+" "+c.want, func(t *testing.T) {
			in := inGo(c.change)
			var wrong *shared.FieldError
			if _, err := in.plan(); !errors.As(err, &wrong) || wrong.Field != "host.Config.Cluster."+c.field ||
				!strings.Contains(wrong.Problem, c.want) {
				t.Errorf("got %v, want %s: %s", err, c.field, c.want)
			}
		})
	}
	t.Run("with a File", func(t *testing.T) {
		in := Config{File: "plugin.hcl", Cluster: ClusterConfig{Node: "n0"}}
		var wrong *shared.FieldError
		if _, err := in.plan(); !errors.As(err, &wrong) || wrong.Field != "host.Config.File" {
			t.Errorf("got %v", err)
		}
	})
}

// Every attribute of the block is a field of ClusterConfig.
func TestConfig_ClusterFields(t *testing.T) {
	fields := reflect.TypeFor[ClusterConfig]()
	if fields.NumField() != len(clusterFields) {
		t.Errorf("%d fields, and %d are known", fields.NumField(), len(clusterFields))
	}
	for attribute, field := range clusterFields {
		if _, ok := fields.FieldByName(field); !ok {
			t.Errorf("%s: there is no field %s", attribute, field)
		}
	}
}
