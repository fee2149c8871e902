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
		},
		"the least": {
			Plugin: PluginBlock{Binary: "/plugin", StartTimeout: DefaultStartTimeout}, Index: IndexBlock{Path: "/index"},
			Rules: RulesBlock{OnError: OnErrorLastGood},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, ds := Whole.Parse("plugin.hcl", f.Text())
			if got == nil || len(ds) > 0 {
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
