package config

import (
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// Text is the plugin.hcl that says what f says. CheckPath finds nothing wrong with its paths.
func (f *File) Text() []byte {
	out := hclwrite.NewEmptyFile()
	out.Body().AppendUnstructuredTokens(hclwrite.Tokens{{Bytes: []byte("# Written by the server that uses it.\n")}})
	plugin := out.Body().AppendNewBlock(pluginBlock, nil).Body()
	plugin.SetAttributeValue("binary", cty.StringVal(f.Plugin.Binary))
	if f.Plugin.SHA256 != "" {
		plugin.SetAttributeValue("sha256", cty.StringVal(f.Plugin.SHA256))
	}
	if f.Plugin.StartTimeout != 0 {
		plugin.SetAttributeValue("start_timeout", cty.StringVal(f.Plugin.StartTimeout.String()))
	}
	plugin.SetAttributeValue("watch", cty.BoolVal(f.Plugin.Watch))
	index := out.Body().AppendNewBlock(indexBlock, nil).Body()
	index.SetAttributeValue("path", cty.StringVal(f.Index.Path))
	index.SetAttributeValue("create", cty.BoolVal(f.Index.Create))
	if len(f.Rules.Paths) > 0 {
		rules := out.Body().AppendNewBlock(rulesBlock, nil).Body()
		var paths []cty.Value
		for _, p := range f.Rules.Paths {
			paths = append(paths, cty.StringVal(p))
		}
		rules.SetAttributeValue("paths", cty.ListVal(paths))
		if f.Rules.OnError != "" {
			rules.SetAttributeValue("on_error", cty.StringVal(f.Rules.OnError))
		}
	}
	return out.Bytes()
}
