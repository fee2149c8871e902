package config

import (
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// Text is the plugin.hcl that says what f says. CheckPath finds nothing wrong with its paths, and ClusterBlock.Check
// nothing with its cluster.
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
	if f.Index.KeepMessages != 0 {
		index.SetAttributeValue("keep_messages", cty.StringVal(f.Index.KeepMessages.String()))
	}
	if len(f.Rules.Paths) > 0 {
		rules := out.Body().AppendNewBlock(rulesBlock, nil).Body()
		rules.SetAttributeValue("paths", textList(f.Rules.Paths))
		if f.Rules.OnError != "" {
			rules.SetAttributeValue("on_error", cty.StringVal(f.Rules.OnError))
		}
	}
	if f.Cluster != nil {
		f.Cluster.write(out.Body().AppendNewBlock(clusterBlock, nil).Body())
	}
	return out.Bytes()
}

func (c *ClusterBlock) write(body *hclwrite.Body) {
	body.SetAttributeValue("node", cty.StringVal(c.Node))
	body.SetAttributeValue("urls", textList(c.URLs))
	body.SetAttributeValue("stream", cty.StringVal(c.Stream))
	body.SetAttributeValue("replicas", cty.NumberIntVal(int64(c.Replicas)))
	for _, file := range c.files() {
		if *file.path != "" {
			body.SetAttributeValue(file.attribute, cty.StringVal(*file.path))
		}
	}
	if c.Unchecked {
		body.SetAttributeValue("durability", cty.StringVal(durabilityUnchecked))
	}
	body.SetAttributeValue("lease", cty.StringVal(c.Lease.String()))
	body.SetAttributeValue("forget_after", cty.StringVal(c.ForgetAfter.String()))
	body.SetAttributeValue("snapshot_entries", cty.NumberIntVal(int64(c.SnapshotEntries)))
}

// textList is a list of at least one text.
func textList(texts []string) cty.Value {
	var values []cty.Value
	for _, text := range texts {
		values = append(values, cty.StringVal(text))
	}
	return cty.ListVal(values)
}
