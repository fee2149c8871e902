package rulestest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/rules"
)

func TestCookbookPoliciesPassTheirTestsAndHaveNoDeadRule(t *testing.T) {
	dirs, _ := filepath.Glob("../cookbook/*")
	if len(dirs) != 10 {
		t.Fatalf("%d policies in the cookbook", len(dirs))
	}
	report, diags := Run("../cookbook")
	if report == nil || len(diags) > 0 || len(report.Suites) != len(dirs) {
		t.Fatalf("not all were run: %s", diags)
	}
	if report.Failed() > 0 {
		t.Error(report)
	}
	for _, s := range report.Suites {
		invariants := 0
		for _, r := range s.Results {
			if r.Kind == "invariant" {
				invariants++
			}
		}
		if invariants == 0 || len(s.Uncovered) > 0 {
			t.Errorf("%s has %d invariants and does not cover %v", s.Path, invariants, s.Uncovered)
		}
	}
	for _, dir := range dirs {
		p, diags := rules.Load(dir)
		if p == nil || len(diags) > 0 {
			t.Fatal(diags)
		}
		if a := p.Analyze(); !a.Proven || len(a.Findings) > 0 {
			t.Errorf("%s: %+v", dir, a)
		}
	}
}

func TestCookbookStartsFromTheBuiltInPolicy(t *testing.T) {
	p, diags := rules.Load("../cookbook/easemob")
	if p == nil {
		t.Fatal(diags)
	}
	if c := rules.Compare(rules.Default(), p); !c.Proven || len(c.Differences) > 0 {
		t.Errorf("it decides otherwise: %+v", c.Differences)
	}
}

func TestShippedFilesAreInTheCanonicalFormat(t *testing.T) {
	dirs, _ := filepath.Glob("../cookbook/*")
	files, diags := rules.Files(append(dirs, "../default.hcl")...)
	if diags.HasErrors() || len(files) != 2*len(dirs)+1 {
		t.Fatalf("%d files: %s", len(files), diags)
	}
	for _, file := range files {
		was, now, diags := rules.FormatFile(file)
		if diags.HasErrors() || !bytes.Equal(was, now) {
			t.Errorf("%s is not canonical: %s", file, diags)
		}
	}
}

func TestFormattingKeepsTheMeaningAndIsDoneOnce(t *testing.T) {
	messy := "\r\n\r\npermit \"own\" {   # why \r\r\nsender=true\r\n   window   =   \"1m\"  \r\n}\r\nforbid \"x\" " +
		"{\n\twhen = message.type==\"file\"&&actor.role!=\"owner\"\n}\n\n\n"
	once, diags := rules.Format("rules.hcl", []byte(messy))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	twice, _ := rules.Format("rules.hcl", once)
	if !bytes.Equal(once, twice) {
		t.Errorf("formatted twice it is\n%s\nand not\n%s", twice, once)
	}
	if c := rules.Compare(mustParse(t, messy), mustParse(t, string(once))); !c.Proven || len(c.Differences) > 0 {
		t.Errorf("decides otherwise: %+v", c)
	}
	if bytes.ContainsAny(once, "\r\t") || bytes.HasPrefix(once, []byte("\n")) || !bytes.HasSuffix(once, []byte("}\n")) {
		t.Errorf("%q", once)
	}
	if out, diags := rules.Format("rules.hcl", []byte("permit {{{")); out != nil || !diags.HasErrors() {
		t.Error("a file that does not parse was formatted")
	}
}

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

func TestFailedTestSaysWhatWasDecidedAndForWhat(t *testing.T) {
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

func TestBadTestFileIsRefused(t *testing.T) {
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

func TestNamedFilesAreOneSuite(t *testing.T) {
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

func TestLinkedDirectoriesAreSearchedForTestsOnce(t *testing.T) {
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
	if diags.HasErrors() || len(report.Suites) != 1 || report.Suites[0].Path != filepath.ToSlash(filepath.Join(dir,
		"again")) {
		t.Errorf("%+v, %s", report, diags)
	}
}

func TestALinkFromFarDownHidesNoTests(t *testing.T) {
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

func TestCaseIsReadStrictly(t *testing.T) {
	c, err := ParseCase([]byte(
		`{"role": "owner", "sender": false, "labels": ["a"], "age": "1d", "sent_at": "2026-05-01T00:00:00Z"}`))
	if err != nil {
		t.Fatal(err)
	}
	in, err := c.Input()
	if err != nil || in.ActorRole != "owner" || in.IsSender() || in.Age() != 24*time.Hour || in.MessageLabels[0] != "a" ||
		in.SentAt.Month() != 5 {
		t.Errorf("%+v %v", in, err)
	}
	back, err := CaseOf(in).Input()
	if err != nil || back.Sender != in.Sender || !back.RequestedAt.Equal(in.RequestedAt) ||
		back.ActorRole != in.ActorRole {
		t.Errorf("shown and read again it is %+v, %v", back, err)
	}
	for text, want := range map[string]string{
		`{"rol": "owner"}`:                     `Did you mean "role"?`,
		`{"Role": "owner"}`:                    `no field "Role"`,
		`{"role": 5}`:                          `decode the case`,
		`["owner"]`:                            `not a JSON object`,
		`{"role": "ownr"}`:                     `Did you mean "owner"?`,
		`{"age": "-1m"}`:                       `age: "-1m" is not a duration`,
		`{"sent_at": "May"}`:                   `sent_at: "May" is not a time`,
		`{"sender": true, "sent_by": "bob"}`:   `sender is true`,
		`{"conversation": "groups"}`:           `Did you mean "group"?`,
		`{"type": "texts", "role": "nothing"}`: `unknown message type "texts"`,
	} {
		c, err := ParseCase([]byte(text))
		if err == nil {
			_, err = c.Input()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestRun_TextThatNormalisationChanges(t *testing.T) {
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
