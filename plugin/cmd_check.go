package main

import (
	"fmt"
	"io"

	"github.com/chat-recall/recall/rules"
)

// checked is what check prints as JSON.
type checked struct {
	OK          bool              `json:"ok"`
	Rules       int               `json:"rules"`
	Digest      string            `json:"digest"`
	Inputs      int               `json:"inputs"` // that the rules tell apart; 0: more than can be counted
	Proven      bool              `json:"proven"` // all inputs were gone through for dead rules
	Diagnostics rules.Diagnostics `json:"diagnostics"`
}

// runCheck is recall-plugin check.
func runCheck(args []string, stdout, stderr io.Writer) int {
	t := newTool("check", "[--strict] [--json] PATH...", "Checks rule files and directories as one policy, and finds rules that can never decide.", stdout, stderr)
	strict := t.Bool("strict", false, "exit with 1 on warnings too, and on what could not be proven")
	paths, code, done := t.parse(args)
	switch {
	case done:
		return code
	case len(paths) == 0:
		return t.wrongUsage("name the rule files or their directory")
	}
	policy, diags := rules.Load(paths...)
	if policy == nil {
		return t.refused(diags)
	}
	a := policy.Analyze()
	diags = append(diags, a.Findings...)
	out := checked{
		OK:    !*strict || len(diags) == 0 && a.Proven,
		Rules: len(policy.Rules()), Digest: policy.Digest(), Inputs: a.Inputs, Proven: a.Proven, Diagnostics: diags,
	}
	if out.Diagnostics == nil {
		out.Diagnostics = rules.Diagnostics{}
	}
	proof := fmt.Sprintf("gone through %d distinguishable inputs", a.Inputs)
	if !a.Proven {
		proof = "not proven that none is dead: going through all distinguishable inputs would take too long"
	}
	t.print(out, fmt.Sprintf("%s%s, %s, %s\n", diags, count(out.Rules, "rule"), count(len(diags), "warning"), proof))
	if !out.OK {
		return exitBad
	}
	return exitGood
}
