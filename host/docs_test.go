package host_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestFaultTable_NamesTests(t *testing.T) {
	doc, err := os.ReadFile("../docs/upgrades.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(src)
	}
	rows := regexp.MustCompile("`(Test[A-Za-z0-9_]+)` \\|\n").FindAllSubmatch(doc, -1)
	_, faults, _ := strings.Cut(string(doc), "\n## Faults\n")
	table, _, _ := strings.Cut(faults, "\n## ")
	if all := strings.Count(table, "\n|") - 2; all < 18 || len(rows) != all { // without its heading
		t.Errorf("the table of faults has %d rows, and %d of them name a test", all, len(rows))
	}
	for _, row := range rows {
		if !strings.Contains(tests.String(), "func "+string(row[1])+"(") {
			t.Errorf("there is no test %s", row[1])
		}
	}
}
