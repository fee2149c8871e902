package rules

import (
	"os/exec"
	"strings"
	"testing"
)

// TestImports checks that the packages of the rule language depend on each other in one direction only.
func TestImports(t *testing.T) {
	const module = "github.com/chat-recall/recall/"
	for pkg, allowed := range map[string]string{
		"rules/internal/policy": "internal/hclfile",
		"rules/internal/lang":   "internal/hclfile rules/internal/policy",
		"rules/internal/proof":  "internal/hclfile rules/internal/policy",
		"rules/rulestest":       "internal/hclfile rules/internal/policy rules/internal/lang rules/internal/proof",
		"rules":                 "internal/hclfile rules/internal/policy rules/internal/lang rules/internal/proof",
	} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", module+pkg).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, dep := range strings.Fields(string(out)) {
			name, ours := strings.CutPrefix(dep, module)
			if ours && name != pkg && !strings.Contains(" "+allowed+" ", " "+name+" ") {
				t.Errorf("%s depends on %s", pkg, name)
			}
		}
	}
}
