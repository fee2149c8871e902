package config

import (
	"reflect"
	"testing"
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
	t.Run("is nothing where there are errors", func(t *testing.T) {
		if c, ds := Load("/nowhere/plugin.hcl"); c != nil || !ds.HasErrors() {
			t.Errorf("got %+v, %v", c, ds)
		}
	})
}
