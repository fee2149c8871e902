package config

import (
	"reflect"
	"testing"
	"time"
)

func TestFile_Text(t *testing.T) {
	for name, f := range map[string]File{
		"everything": {
			Plugin: PluginBlock{
				Binary: "/opt/recall \"1\"/${x}/plugin", StartTimeout: 90 * time.Second, Watch: true,
				SHA256: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
			},
			Index: IndexBlock{Path: "/var/lib/index\twith %{ if true }", Create: true},
			Rules: RulesBlock{Paths: []string{"/etc/rules.d", "/etc/a.hcl"}, OnError: OnErrorRefuse},
			Cluster: &ClusterBlock{
				Node: "eu-1.chat_0", URLs: []string{"tls://10.0.0.1:4222", "nats://[::1]:4222"}, Stream: "CHAT", Replicas: 5,
				Credentials: "/etc/\"${x}\".creds", SystemCredentials: "/etc/sys.creds", CA: "/etc/ca.pem", Cert: "/etc/n0.pem",
				Key: "/etc/n0.key", Lease: 90 * time.Second, ForgetAfter: time.Hour + time.Millisecond,
				SnapshotEntries: maxSnapshotEntries,
			},
		},
		"a cluster that is not checked": {
			Plugin: PluginBlock{Binary: "/plugin", StartTimeout: DefaultStartTimeout},
			Index:  IndexBlock{Path: "/index", KeepMessages: 400 * day},
			Rules:  RulesBlock{OnError: OnErrorLastGood},
			Cluster: &ClusterBlock{
				Node: "n0", URLs: []string{"nats://127.0.0.1:4222"}, Stream: DefaultStream, Replicas: 1, Unchecked: true,
				Lease: DefaultLease, ForgetAfter: DefaultForgetAfter, SnapshotEntries: DefaultSnapshotEntries,
			},
		},
		"the least": {
			Plugin: PluginBlock{Binary: "/plugin", StartTimeout: DefaultStartTimeout}, Index: IndexBlock{Path: "/index"},
			Rules: RulesBlock{OnError: OnErrorLastGood},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, ds := Host.Parse("plugin.hcl", f.Text())
			if got == nil || ds.HasErrors() {
				t.Fatalf("%s\n%v", f.Text(), ds)
			}
			if len(got.Rules.Paths) == 0 {
				got.Rules.Paths = nil
			}
			if !reflect.DeepEqual(*got, f) {
				t.Errorf("%s\n got %+v\nwant %+v", f.Text(), *got, f)
			}
		})
	}
}
