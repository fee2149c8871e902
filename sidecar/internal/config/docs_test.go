package config

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDocument_Attributes compares the table of attributes with those that the parser knows.
func TestDocument_Attributes(t *testing.T) {
	text, err := os.ReadFile("../../../docs/any-language.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## sidecar.hcl\n")
	section, _, _ = strings.Cut(section, "\n## ")
	documented, block := map[string][]string{}, ""
	row := regexp.MustCompile("(?m)^\\| (`[^|]*`)? ?\\| (`[a-z_`, ]+`) \\|.*$")
	for _, m := range row.FindAllStringSubmatch(section, -1) {
		if m[1] != "" {
			block = strings.Trim(m[1], "`")
		}
		for name := range strings.SplitSeq(m[2], ", ") {
			documented[block] = append(documented[block], strings.Trim(name, "`"))
		}
		if cells := strings.Count(m[0], "|"); cells != 6 {
			t.Errorf("a row has %d cells: %s", cells-1, m[0])
		}
	}
	for block, known := range map[string][]string{
		"": topAttributes, `listen "unix"`: listenAttributes[Unix], `listen "tcp"`: listenAttributes[TCP],
		`step "…"`: stepAttributes,
	} {
		got, want := slices.Sorted(slices.Values(documented[block])), slices.Sorted(slices.Values(known))
		if !slices.Equal(got, want) {
			t.Errorf("%q: the document has %q, the parser knows %q", block, got, want)
		}
		delete(documented, block)
	}
	for block := range documented {
		t.Errorf("there is no block %q", block)
	}
}
