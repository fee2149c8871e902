package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/chat-recall/recall/rules"
)

// runDiff is recall-plugin diff.
func runDiff(args []string, stdout, stderr io.Writer) int {
	t := newTool("diff", "[--exit-code] [--json] OLD NEW",
		"Shows which requests two policies decide differently. OLD and NEW are each a rule file or a directory.",
		stdout, stderr)
	exitCode := t.Bool("exit-code", false, "exit with 1 if they differ, or if it cannot be proven that they do not")
	paths, code, done := t.parse(args)
	switch {
	case done:
		return code
	case len(paths) != 2:
		return t.wrongUsage(fmt.Sprintf("needs two policies, OLD and NEW, not %d", len(paths)))
	}
	was, wasDiags := rules.Load(paths[0])
	now, nowDiags := rules.Load(paths[1])
	if was == nil || now == nil {
		return t.refused(append(wasDiags, nowDiags...))
	}
	c := rules.Compare(was, now)
	t.print(c, describeComparison(c))
	if *exitCode && (!c.Proven || len(c.Differences) > 0) {
		return exitBad
	}
	return exitGood
}

// shownDifferences bounds the differences in the text; --json prints all of them.
const shownDifferences = 20

func describeComparison(c rules.Comparison) string {
	switch {
	case !c.Proven:
		return "not proven: too many distinguishable inputs\n"
	case len(c.Differences) == 0:
		return fmt.Sprintf("the same decision for all %d distinguishable inputs\n", c.Inputs)
	}
	var b strings.Builder
	changed := 0
	for i, d := range c.Differences {
		changed += d.Inputs
		if i < shownDifferences {
			was := strings.Join(d.Was, "\n  - ")
			if !d.All {
				was += "\n  - (some already as now)"
			}
			fmt.Fprintf(&b, "%s\n  - %s\n  + %s\n", d.Where, was, d.Now)
		}
	}
	if more := len(c.Differences) - shownDifferences; more > 0 {
		fmt.Fprintf(&b, "and %d smaller classes\n", more)
	}
	if !c.Complete {
		b.WriteString("and more differences than can be grouped\n")
		return b.String()
	}
	fmt.Fprintf(&b, "%d of %d distinguishable inputs are decided differently\n", changed, c.Inputs)
	return b.String()
}
