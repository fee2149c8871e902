package rulestest

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/chat-recall/recall/rules"
)

func TestCookbook_Passes(t *testing.T) {
	dirs, _ := filepath.Glob("../cookbook/*")
	if len(dirs) != 14 {
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

func TestCookbook_EasemobEqualsBuiltIn(t *testing.T) {
	p, diags := rules.Load("../cookbook/easemob")
	if p == nil {
		t.Fatal(diags)
	}
	if c := rules.Compare(rules.Default(), p); !c.Proven || len(c.Differences) > 0 {
		t.Errorf("it decides otherwise: %+v", c.Differences)
	}
}

func TestFormat_ShippedFiles(t *testing.T) {
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

func TestFormat_KeepsMeaning(t *testing.T) {
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
