package rulestest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chat-recall/recall/rules"
)

// testsOf runs a test file against a rule file.
func testsOf(t *testing.T, policy, tests string) (*Report, rules.Diagnostics) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "rules.hcl"), policy)
	write(t, filepath.Join(dir, "rules.test.hcl"), tests)
	report, diags := Run(dir)
	for i := range diags {
		diags[i].File = filepath.Base(diags[i].File)
	}
	return report, diags
}

func TestRun_Failures(t *testing.T) {
	report, diags := testsOf(t, shortRules+"permit \"chatrooms\" {\n conversation = [\"chatroom\"]\n window = \"5m\"\n}", `
		given {
			age = "2m"
		}
		given "quick" {
			age = "1s"
		}
		test "code" { expect = "permit" }
		test "rule" {
			given  = ["quick"]
			expect = "permit"
			rule   = "chatrooms"
		}
		test "until" {
			given  = ["quick"]
			expect = "permit"
			until  = "2m"
		}
		test "shadow" {
			expect = "deny"
			shadow = "permit"
		}
		test "good" {
			given  = ["quick"]
			sender = false
			expect = "forbidden"
		}
		invariant "broken" {
			when   = message.age > "90s"
			expect = "deny"
		}
		invariant "about nothing" {
			when   = message.age > "2m" && message.age < "1m"
			expect = "permit"
		}`)
	if report == nil || diags.HasErrors() {
		t.Fatal(diags)
	}
	if report.Failed() != 6 {
		t.Errorf("%d failed", report.Failed())
	}
	out := report.String()
	for _, want := range []string{
		`test "code" failed: expected permit, got refused: window_expired by own`,
		`test "rule" failed: expected rule chatrooms to decide, but own`,
		`test "until" failed: expected until 2m, got until 1m`,
		`test "shadow" failed: expected permit with shadow rules, got refused: window_expired`,
		`invariant "broken" failed: expected deny, got permitted by chatrooms`,
		`where conversation.type is chatroom, message.type is not command, actor.role is not none, ` +
			`message.age is over 1m30s and up to 5m`,
		`for example conversation = "chatroom", type = "text", age = "1m30.000000001s"`,
		`invariant "about nothing" failed: no input meets the condition`,
		`1 of 7 passed`,
		`not covered: chatrooms`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("does not say: %s\n%s", want, out)
		}
	}
}

func TestRun_BadTestFile(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"unknown code":      {`test "a" { expect = "forbiden" }`, `Did you mean "forbidden"?`},
		"unknown rule":      {"test \"a\" {\n expect = \"permit\"\n rule = \"owm\"\n}", `Did you mean "own"?`},
		"unknown attribute": {"test \"a\" {\n expect = \"permit\"\n rol = \"owner\"\n}", `Did you mean "role"?`},
		"unknown word":      {"test \"a\" {\n expect = \"permit\"\n role = \"ownr\"\n}", `Did you mean "owner"?`},
		"unknown given": {"given \"late\" {}\ntest \"a\" {\n expect = \"permit\"\n given = [\"lat\"]\n}",
			`Did you mean "late"?`},
		"no expectation": {`test "a" { role = "owner" }`, `test needs the attribute "expect"`},
		"bad age":        {"test \"a\" {\n expect = \"permit\"\n age = \"8 d\"\n}", `age: "8 d" is not a duration`},
		"contradiction": {"test \"a\" {\n expect = \"permit\"\n sender = true\n sent_by = \"bob\"\n}",
			`sender is true, but`},
		"typo in invariant": {"invariant \"a\" {\n when = mesage.age > \"2m\"\n expect = \"deny\"\n}",
			`Did you mean message.age?`},
		"a rule in it":    {"permit \"a\" {}", `a test file has no block "permit"`},
		"nothing to test": {"given {}", `contains no test`},
		"deep":            {"test \"a\" { expect = " + strings.Repeat("[", 1000), `nested more than`},
	} {
		report, diags := testsOf(t, shortRules, test.text)
		if !diags.HasErrors() || report != nil && len(report.Suites) > 0 {
			t.Errorf("%s: was run", name)
		}
		if !strings.Contains(diags.String(), test.want) {
			t.Errorf("%s: does not say %s\n%s", name, test.want, diags)
		}
	}
	if report, diags := Run(t.TempDir()); report != nil || !diags.HasErrors() {
		t.Error("an empty directory was tested")
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "rules.hcl"), shortRules)
	if report, diags := Run(dir); report != nil || !diags.HasErrors() {
		t.Error("rules without tests were tested")
	}
}

func TestRun_NamedFiles(t *testing.T) {
	dir := t.TempDir()
	policy, tests := filepath.Join(dir, "rules.hcl"), filepath.Join(dir, "rules.test.hcl")
	write(t, policy, shortRules)
	write(t, tests, `test "in time" { expect = "permit" }`)
	for name, paths := range map[string][]string{"both": {policy, tests}, "only the tests": {tests}, "directory": {dir},
		"directory above": {filepath.Dir(dir)}} {
		report, diags := Run(paths...)
		if report == nil || diags.HasErrors() || len(report.Suites) != 1 || report.Failed() != 0 ||
			len(report.Suites[0].Results) != 1 {
			t.Errorf("%s: %+v %s", name, report, diags)
		}
	}
	for name, paths := range map[string][]string{"no tests": {policy}, "missing": {filepath.Join(dir, "x.test.hcl")},
		"none": nil} {
		if report, diags := Run(paths...); report != nil || !diags.HasErrors() {
			t.Errorf("%s: was run", name)
		}
	}
	if p, diags := rules.Load(tests); p != nil || !strings.Contains(diags.String(), "is a test file") {
		t.Errorf("a test file was loaded as rules: %s", diags)
	}
}

func TestRun_SymbolicLinks(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	write(t, filepath.Join(elsewhere, "rules.hcl"), "permit \"own\" { sender = true }")
	write(t, filepath.Join(elsewhere, "rules.test.hcl"), "test \"own\" { expect = \"permit\" }")
	for name, to := range map[string]string{"linked": elsewhere, "again": elsewhere, "back": dir,
		"gone": filepath.Join(dir, "nothing")} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	report, diags := Run(dir)
	if diags.HasErrors() || len(report.Suites) != 1 ||
		report.Suites[0].Path != filepath.ToSlash(filepath.Join(dir, "again")) {
		t.Errorf("%+v, %s", report, diags)
	}
}

func TestRun_LinkAtMaximumDepth(t *testing.T) {
	dir := t.TempDir()
	deep, far := filepath.Join(dir, "z", "below"), filepath.Join(dir, filepath.FromSlash("a/2/3/4/5/6/7"))
	for _, d := range []string{deep, far} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(deep, "rules.hcl"), "permit \"own\" { sender = true }")
	write(t, filepath.Join(deep, "rules.test.hcl"), "test \"own\" { expect = \"permit\" }")
	if err := os.Symlink(filepath.Join(dir, "z"), filepath.Join(far, "link")); err != nil { // at the maximum depth
		t.Fatal(err)
	}
	if report, diags := Run(dir); diags.HasErrors() || len(report.Suites) != 1 {
		t.Errorf("%+v, %s", report, diags)
	}
}

func TestRun_StringNotNormalized(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.hcl"), `permit "own" { sender = true }`)
	write(t, filepath.Join(dir, "a.test.hcl"),
		"test \"own\" {\n  sender = true\n  labels = [\"\uf9e1\"]\n  expect = \"permit\"\n}\n")
	if _, diags := Run(dir); !diags.HasErrors() ||
		!strings.Contains(diags.String(),
			"a.test.hcl:3:13: error: Unicode normalization changes this string: U+F9E1 becomes U+674E") {
		t.Errorf("got %s", diags)
	}
}
