package main

import (
	"fmt"
	"io"

	"github.com/chat-recall/recall/internal/config"
	"github.com/chat-recall/recall/rules"
)

// checked is what check prints as JSON.
type checked struct {
	OK          bool              `json:"ok"`
	Config      *checkedConfig    `json:"config,omitempty"` // with --config
	Rules       int               `json:"rules"`
	Digest      string            `json:"digest"`
	Inputs      int               `json:"inputs"` // that the rules can tell apart; 0: too many to count
	Proven      bool              `json:"proven"` // all inputs were checked for dead rules
	Notes       []string          `json:"notes"`  // what is allowed, and yet worth knowing
	Diagnostics rules.Diagnostics `json:"diagnostics"`
}

// checkedConfig is what a plugin.hcl says.
type checkedConfig struct {
	File    string          `json:"file"`
	Binary  string          `json:"binary"`
	Index   string          `json:"index"`
	Rules   []string        `json:"rules"`             // files and folders; none: the built-in policy
	Cluster *checkedCluster `json:"cluster,omitempty"` // none: a single machine
}

// checkedCluster is which node of which cluster a plugin.hcl makes.
type checkedCluster struct {
	Node   string   `json:"node"`
	URLs   []string `json:"urls"`
	Stream string   `json:"stream"`
}

// runCheck is recall-plugin check.
func runCheck(args []string, stdout, stderr io.Writer) int {
	t := newTool("check", "[--strict] [--json] PATH... | --config plugin.hcl",
		"Checks rule files and directories as one policy, and finds rules that can never decide. With --config checks a\n"+
			"plugin.hcl and the rules and other files that it names. Nothing is started, no index is opened, and no\n"+
			"server of a cluster is called.", stdout, stderr)
	strict := t.Bool("strict", false, "exit with 1 also on warnings, and if not everything could be proven")
	file := t.String("config", "", "check this plugin.hcl, and the rules and other files that it names")
	paths, code, done := t.parse(args)
	switch {
	case done:
		return code
	case *file != "" && len(paths) > 0:
		return t.wrongUsage("--config checks the rules that the file names; name no other paths")
	case *file == "" && len(paths) == 0:
		return t.wrongUsage("name rule files or their directory, or a plugin.hcl with --config")
	}
	out := checked{Diagnostics: rules.Diagnostics{}}
	if *file != "" {
		f, diags := config.Whole.Load(*file)
		if f == nil {
			return t.refused(diags)
		}
		out.Diagnostics = append(out.Diagnostics, diags...)
		out.Config = &checkedConfig{File: *file, Binary: f.Plugin.Binary, Index: f.Index.Path, Rules: f.Rules.Paths}
		if c := f.Cluster; c != nil {
			out.Config.Cluster = &checkedCluster{Node: c.Node, URLs: c.URLs, Stream: c.Stream}
		}
		paths = f.Rules.Paths
	}
	policy, diags := rules.Default(), rules.Diagnostics(nil)
	if len(paths) > 0 {
		policy, diags = rules.Load(paths...)
	}
	out.Diagnostics = append(out.Diagnostics, diags...)
	if policy == nil {
		return t.refused(out.Diagnostics)
	}
	a := policy.Analyze()
	out.Diagnostics = append(out.Diagnostics, a.Findings...)
	out.OK = !*strict || len(out.Diagnostics) == 0 && a.Proven
	out.Rules, out.Digest, out.Inputs, out.Proven = len(policy.Rules()), policy.Digest(), a.Inputs, a.Proven
	out.Notes = policy.Notes()
	notes := ""
	for _, n := range out.Notes {
		notes += "note: " + n + "\n"
	}
	proof := fmt.Sprintf("%d distinguishable inputs checked", a.Inputs)
	if !a.Proven {
		proof = "not proven that every rule can decide: too many distinguishable inputs"
	}
	of := ""
	if out.Config != nil && len(paths) == 0 {
		of = " of the built-in policy"
	}
	t.print(out, fmt.Sprintf("%s%s%s%s, %s, %s\n",
		out.Diagnostics, notes, count(out.Rules, "rule"), of, count(len(out.Diagnostics), "warning"), proof))
	if !out.OK {
		return exitBad
	}
	return exitGood
}
