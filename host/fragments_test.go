package host_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDocs_FragmentsRun holds that each Go fragment of a document is part of an example or test that runs.
func TestDocs_FragmentsRun(t *testing.T) {
	for file, example := range map[string]string{
		"../docs/in-your-server.md": "example_test.go", "../README.md": "example_test.go",
		"../docs/platforms.md": "adapter/forum_test.go",
	} {
		source, err := os.ReadFile(example)
		if err != nil {
			t.Fatal(err)
		}
		examples := unindented(string(source))
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		fragments := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(text), -1)
		if len(fragments) == 0 {
			t.Errorf("%s has no fragment", file)
		}
		for _, f := range fragments {
			if !strings.Contains(examples, unindented(f[1])) {
				t.Errorf("%s: not part of %s:\n%s", file, example, f[1])
			}
		}
	}
}

// unindented is a text without the blanks at the begin of its lines.
func unindented(text string) string {
	return regexp.MustCompile(`(?m)^[\t ]+`).ReplaceAllString(text, "")
}
