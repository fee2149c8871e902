package main

import (
	"encoding/xml"
	"fmt"
	"io"

	"github.com/chat-recall/recall/rules/rulestest"
)

// runTest is recall-plugin test.
func runTest(args []string, stdout, stderr io.Writer) int {
	t := newTool("test", "[--json|--junit] PATH...",
		"Runs the *.test.hcl files of directories against the rules next to them.", stdout, stderr)
	junit := t.Bool("junit", false, "print JUnit XML")
	paths, code, done := t.parse(args)
	switch {
	case done:
		return code
	case len(paths) == 0:
		return t.wrongUsage("name a directory with rule and test files")
	case *junit && *t.json:
		return t.wrongUsage("use either --json or --junit")
	}
	report, diags := rulestest.Run(paths...)
	if report == nil || diags.HasErrors() {
		return t.refused(diags)
	}
	ok := report.Failed() == 0
	if *junit {
		writeJUnit(stdout, report)
	} else {
		t.print(struct {
			OK bool `json:"ok"`
			*rulestest.Report
		}{ok, report}, report.String())
	}
	if !ok {
		return exitBad
	}
	return exitGood
}

type junitSuites struct {
	XMLName xml.Name     `xml:"testsuites"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	File    string        `xml:"file,attr"`
	Line    int           `xml:"line,attr"`
	Failure *junitFailure `xml:"failure"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

func writeJUnit(w io.Writer, report *rulestest.Report) {
	var out junitSuites
	for _, s := range report.Suites {
		suite := junitSuite{Name: s.Path, Tests: len(s.Results)}
		for _, r := range s.Results {
			c := junitCase{Class: r.Kind, Name: r.Title, File: r.File, Line: r.Line}
			if !r.Passed {
				suite.Failures++
				c.Failure = &junitFailure{Message: r.Failure}
				if r.Case != nil {
					c.Failure.Text = "for example " + r.Case.String()
				}
			}
			suite.Cases = append(suite.Cases, c)
		}
		out.Suites = append(out.Suites, suite)
	}
	text, _ := xml.MarshalIndent(out, "", "  ") // plain structs always marshal
	fmt.Fprintf(w, "%s%s\n", xml.Header, text)
}
