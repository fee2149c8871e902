package rulestest

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/rules/internal/lang"
	"github.com/chat-recall/recall/rules/internal/policy"
	"github.com/chat-recall/recall/rules/internal/proof"
)

// Report is the result of running test files.
type Report struct {
	Suites []Suite `json:"suites"`
}

// Suite is the results for one policy.
type Suite struct {
	Path      string           `json:"path"` // of the directory, or of the files
	Results   []Result         `json:"results"`
	Rules     int              `json:"rules"`
	Uncovered []policy.RuleRef `json:"uncovered"` // rules that decided in no test
}

// Result is the result of one test or invariant.
type Result struct {
	Kind    string `json:"kind"` // "test" or "invariant"
	Title   string `json:"title"`
	File    string `json:"file"`
	Line    int    `json:"line"`
	Passed  bool   `json:"passed"`
	Failure string `json:"failure,omitempty"` // how the decision differs
	Case    *Case  `json:"case,omitempty"`    // that failed; of an invariant a counterexample
	Where   string `json:"where,omitempty"`   // of an invariant: what all counterexamples have in common
	Inputs  int    `json:"inputs,omitempty"`  // of an invariant: number of inputs checked
}

// Failed returns the number of tests and invariants that did not pass.
func (t *Report) Failed() int {
	n := 0
	for _, s := range t.Suites {
		for _, r := range s.Results {
			if !r.Passed {
				n++
			}
		}
	}
	return n
}

// Run runs the *.test.hcl files in paths. Test files of a directory test the rules of that directory; if the directory
// contains no *.hcl, Run searches its subdirectories. Test files that are named test the rule files named with them or,
// if there are none, the directory of the first test file. If the diagnostics contain errors, not all tests were run.
func Run(paths ...string) (*Report, hclfile.Diagnostics) {
	r := lang.NewReporter()
	groups := testGroups(r, paths)
	if r.HasErrors() {
		return nil, r.Diagnostics()
	}
	var report Report
	var diags hclfile.Diagnostics
	for _, g := range groups {
		s, more := g.run()
		diags = append(diags, more...)
		if s != nil {
			report.Suites = append(report.Suites, *s)
		}
	}
	return &report, diags
}

// testGroup is some rule files and the test files for them.
type testGroup struct {
	path         string
	rules, tests []string
}

func testGroups(r *lang.Reporter, paths []string) []testGroup {
	var named testGroup
	var groups []testGroup
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			r.FileError(path, "", err)
		case info.IsDir():
			groups = append(groups, testDirectory(r, path)...)
		case strings.HasSuffix(path, lang.TestSuffix):
			named.tests = append(named.tests, path)
		default:
			named.rules = append(named.rules, path)
		}
	}
	if len(named.rules)+len(named.tests) > 0 {
		named.path = strings.Join(append(append([]string(nil), named.rules...), named.tests...), " ")
		if len(named.rules) == 0 {
			named.rules = []string{filepath.Dir(named.tests[0])}
		}
		groups = append(groups, named)
	}
	if len(groups) == 0 && !r.HasErrors() {
		r.Errorf(hcl.Range{}, "Name a directory with rule and test files.", "no test file was named")
	}
	for _, g := range groups {
		if len(g.tests) == 0 {
			r.Errorf(hcl.Range{Filename: g.path}, "Add one next to the rules, with a name like rules.test.hcl.",
				"there is no test file")
		}
	}
	return groups
}

// maxTestDepth bounds the depth of directories that are searched for tests.
const maxTestDepth = 8

// testDirectory finds the tests in a directory and below it. It visits each directory once, since symbolic links can
// form a circle, and level by level, so that a link at the maximum depth does not hide a directory that is also
// reachable directly.
func testDirectory(r *lang.Reporter, path string) []testGroup {
	var groups []testGroup
	seen := map[string]bool{}
	for depth, level := 0, []string{path}; depth <= maxTestDepth; depth++ {
		var below []string
		for _, directory := range level {
			real, err := filepath.EvalSymlinks(directory)
			if seen[real] {
				continue
			}
			seen[real] = true
			entries, readErr := os.ReadDir(directory)
			if err := cmp.Or(err, readErr); err != nil {
				r.FileError(directory, "", err)
				continue
			}
			if g, own := testGroupOf(directory, entries); own {
				groups = append(groups, g)
				continue
			}
			for _, e := range entries {
				if name := filepath.Join(directory, e.Name()); isDirectory(name) && !strings.HasPrefix(e.Name(), ".") {
					below = append(below, name)
				}
			}
		}
		level = below
	}
	slices.SortFunc(groups, func(a, b testGroup) int { return strings.Compare(a.path, b.path) })
	if len(groups) == 0 && !r.HasErrors() {
		r.Errorf(hcl.Range{Filename: path}, "", "no rule file and no test file in this directory or below it")
	}
	return groups
}

// testGroupOf returns a directory as a group, and whether it contains rule or test files.
func testGroupOf(directory string, entries []os.DirEntry) (g testGroup, own bool) {
	g = testGroup{path: directory, rules: []string{directory}}
	for _, e := range entries {
		if lang.IsTestFile(e.Name()) {
			g.tests = append(g.tests, filepath.Join(directory, e.Name()))
		}
		own = own || lang.IsTestFile(e.Name()) || lang.IsRuleFile(e.Name())
	}
	return g, own
}

func isDirectory(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

func (g testGroup) run() (*Suite, hclfile.Diagnostics) {
	p, diags := lang.Load(g.rules...)
	if p == nil {
		return nil, diags
	}
	r := lang.NewReporter()
	r.Files = lang.ReadFiles(g.tests, r)
	d := &testDecoder{Decoder: lang.NewDecoder(r, p.Zone), policy: p}
	run := newTestRun(p)
	for _, s := range r.Files {
		body := r.Parse(s, lang.TestLanguage)
		if body == nil {
			continue
		}
		tests, invariants := d.file(body)
		if len(tests)+len(invariants) == 0 {
			r.Errorf(hcl.Range{Filename: s.Name}, "Write a test or an invariant block.", "the file contains no test")
		}
		if r.HasErrors() {
			continue
		}
		for _, t := range tests {
			run.test(t)
		}
		for _, i := range invariants {
			run.invariant(i)
		}
	}
	if r.HasErrors() {
		return nil, r.Diagnostics()
	}
	return run.suite(g.path), r.Diagnostics()
}

// testRun collects the results for one policy.
type testRun struct {
	policy  *policy.Policy
	decided map[string]bool // names of rules that decided in a test, or would have without shadow mode
	results []Result
}

func newTestRun(p *policy.Policy) *testRun {
	return &testRun{policy: p, decided: map[string]bool{}}
}

func (t *testRun) test(c testCase) {
	d := t.policy.Decide(c.in)
	t.decided[d.Rule.Name] = true
	t.decided[d.Shadow.Rule.Name] = true
	r := Result{Kind: testBlock.Name, Title: c.title, File: filepath.ToSlash(c.at.Filename), Line: c.at.Start.Line}
	if r.Failure = c.want.met(d, c.in); r.Failure != "" {
		failed := caseOf(c.in)
		r.Case = &failed
	}
	r.Passed = r.Failure == ""
	t.results = append(t.results, r)
}

// invariant checks every input that the policy and the condition can tell apart.
func (t *testRun) invariant(v invariant) {
	r := Result{Kind: invariantBlock.Name, Title: v.title, File: filepath.ToSlash(v.at.Filename), Line: v.at.Start.Line}
	preds := proof.NewPredicates()
	preds.AddPolicy(t.policy)
	preds.AddCondition(v.when)
	dom := proof.NewDomain(preds)
	r.Inputs = dom.Countable()
	if !dom.Tractable() {
		r.Failure = "not proven: the rules can tell too many inputs apart"
		t.results = append(t.results, r)
		return
	}
	met := 0
	failures, _ := proof.Gather(dom, func(in *policy.Input) string {
		if v.when != nil && !v.when.Test(in, in.Age()) {
			return ""
		}
		met++
		return v.want.met(t.policy.Decide(in), in)
	})
	switch {
	case met == 0:
		r.Failure = "no input meets the condition"
	case len(failures) > 0:
		first := failures[0]
		for _, f := range failures {
			if dom.Count(f) > dom.Count(first) {
				first = f
			}
		}
		example := caseOf(dom.Example(first))
		r.Failure, r.Case, r.Where = first.Label, &example, dom.Describe(first)
	}
	r.Passed = r.Failure == ""
	t.results = append(t.results, r)
}

func (t *testRun) suite(path string) *Suite {
	s := &Suite{Path: filepath.ToSlash(path), Results: t.results, Rules: len(t.policy.Rules),
		Uncovered: []policy.RuleRef{}}
	for _, r := range t.policy.Rules {
		if !t.decided[r.Ref.Name] {
			s.Uncovered = append(s.Uncovered, r.Ref)
		}
	}
	return s
}

// String renders the report as text: what failed and why, and which rules no test covers.
func (t *Report) String() string {
	var b strings.Builder
	for _, s := range t.Suites {
		passed, inputs, proven := 0, 0, 0
		for _, r := range s.Results {
			if r.Passed {
				passed++
				if r.Kind == invariantBlock.Name {
					proven++
					inputs = max(inputs, r.Inputs)
				}
				continue
			}
			fmt.Fprintf(&b, "%s:%d: %s %q failed: %s\n", r.File, r.Line, r.Kind, r.Title, r.Failure)
			if r.Where != "" {
				fmt.Fprintf(&b, "  where %s\n", r.Where)
			}
			if r.Case != nil {
				fmt.Fprintf(&b, "  for example %s\n", r.Case)
			}
		}
		fmt.Fprintf(&b, "%s: %d of %d passed", s.Path, passed, len(s.Results))
		if proven > 0 {
			fmt.Fprintf(&b, ", invariants proven for %d inputs", inputs)
		}
		fmt.Fprintf(&b, ", %d of %d rules decide in a test\n", s.Rules-len(s.Uncovered), s.Rules)
		for _, u := range s.Uncovered {
			fmt.Fprintf(&b, "  not covered: %s\n", u)
		}
	}
	return b.String()
}
