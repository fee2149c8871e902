package lang

import (
	"bytes"

	"github.com/hashicorp/hcl/v2/hclwrite"

	"github.com/chat-recall/recall/internal/hclfile"
)

// Format returns a rule or test file in its canonical form: aligned, indented by two spaces, lines ended by \n, with
// one \n at the end. It changes no meaning and refuses a file that does not parse.
func Format(name string, src []byte) ([]byte, hclfile.Diagnostics) {
	r := NewReporter(hclfile.File{Name: name, Text: src})
	r.Parse(r.Files[0], TestLanguage)
	if r.HasErrors() {
		return nil, r.Diagnostics()
	}
	lines := bytes.Split(src, []byte("\n"))
	for i, line := range lines {
		lines[i] = bytes.TrimRight(line, " \t\r")
	}
	out := hclwrite.Format(bytes.TrimSpace(bytes.Join(lines, []byte("\n"))))
	return append(out, '\n'), nil
}

// FormatFile formats a file on disk. It returns the text of the file and the canonical text, and writes nothing.
func FormatFile(name string) (was, now []byte, diags hclfile.Diagnostics) {
	r := NewReporter()
	was, err := hclfile.Read(name, MaxFileBytes)
	if err != nil {
		r.FileError(name, "", err)
		return nil, nil, r.Diagnostics()
	}
	now, diags = Format(name, was)
	return was, now, diags
}

// Files returns the rule and test files that paths name; of a directory every *.hcl, in name order.
func Files(paths ...string) ([]string, hclfile.Diagnostics) {
	r := NewReporter()
	names := ruleFiles(paths, func(name string) bool { return IsRuleFile(name) || IsTestFile(name) }, r)
	return names, r.Diagnostics()
}
