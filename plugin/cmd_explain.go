package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/chat-recall/recall/rules"
	"github.com/chat-recall/recall/rules/rulestest"
)

// runExplain is recall-plugin explain.
func runExplain(args []string, stdout, stderr io.Writer) int {
	t := newTool("explain", "[--json] --rules PATH [--case JSON] [--type TYPE] [--age AGE] ...",
		"Decides about one case and shows why each rule matched or not. The case is given as flags or as a JSON object;\n"+
			"flags override JSON.", stdout, stderr)
	var paths []string
	t.Func("rules", "rule file or directory; can be repeated (default: the built-in policy)", func(path string) error {
		paths = append(paths, path)
		return nil
	})
	text := t.String("case", "", "the case as a JSON object, or - for standard input")
	var set []func(*rulestest.Case)
	for _, f := range rulestest.CaseFields {
		caseFlag(t, f, &set)
	}
	rest, code, done := t.parse(args)
	switch {
	case done:
		return code
	case len(rest) > 0:
		return t.wrongUsage(fmt.Sprintf("unexpected argument %q. Name rules with --rules, and write booleans with =, "+
			"as in --sender=false", rest[0]))
	}
	in, err := explainedInput(*text, set)
	if err != nil {
		return t.wrongUsage(err.Error())
	}
	policy, diags := rules.Default(), rules.Diagnostics(nil)
	if len(paths) > 0 {
		policy, diags = rules.Load(paths...)
	}
	if policy == nil {
		if !*t.json {
			fmt.Fprintln(stdout, "no decision: the rules have errors")
		}
		return t.refused(diags)
	}
	e := policy.Explain(in)
	t.print(e, e.String())
	return exitGood
}

// caseFlag makes a flag of one field of a case.
func caseFlag(t *tool, f rulestest.CaseField, set *[]func(*rulestest.Case)) {
	name, about := strings.ReplaceAll(f.Name, "_", "-"), strings.ReplaceAll(f.About, "`", "")
	switch {
	case f.Text != nil:
		t.Func(name, about, func(v string) error {
			*set = append(*set, func(c *rulestest.Case) { *f.Text(c) = v })
			return nil
		})
	case f.List != nil:
		t.Func(name, about+" Separated by commas.", func(v string) error {
			*set = append(*set, func(c *rulestest.Case) { *f.List(c) = strings.Split(v, ",") })
			return nil
		})
	default:
		t.BoolFunc(name, about, func(v string) error {
			yes, err := strconv.ParseBool(v)
			*set = append(*set, func(c *rulestest.Case) { *f.Flag(c) = &yes })
			return err
		})
	}
}

func explainedInput(text string, set []func(*rulestest.Case)) (*rules.Input, error) {
	json := []byte(cmp.Or(text, "{}"))
	if text == "-" {
		var err error
		if json, err = io.ReadAll(io.LimitReader(os.Stdin, 1<<20)); err != nil {
			return nil, fmt.Errorf("read the case from standard input: %w", err)
		}
	}
	c, err := rulestest.ParseCase(json)
	if err != nil {
		return nil, err
	}
	for _, f := range set {
		f(&c)
	}
	return c.Input()
}
