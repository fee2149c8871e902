package server

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/chat-recall/recall/sidecar/internal/api"
	"github.com/chat-recall/recall/sidecar/internal/calls"
	"github.com/chat-recall/recall/sidecar/internal/pull"
)

// section returns a section of the document of the sidecar.
func section(t *testing.T, title string) string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/any-language.md")
	if err != nil {
		t.Fatal(err)
	}
	_, found, _ := strings.Cut(string(text), "\n## "+title+"\n")
	found, _, _ = strings.Cut(found, "\n## ")
	return found
}

// answerable are the error statuses that the code of this package names.
func answerable(t *testing.T) map[int]bool {
	t.Helper()
	numbers := map[string]int{}
	for status := 400; status < 600; status++ {
		numbers["Status"+strings.NewReplacer(" ", "", "-", "").Replace(http.StatusText(status))] = status
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := map[int]bool{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(gotoken.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := s.X.(*ast.Ident); ok && pkg.Name == "http" && numbers[s.Sel.Name] > 0 {
				found[numbers[s.Sel.Name]] = true
			}
			return true
		})
	}
	for _, status := range statuses {
		found[status] = true
	}
	found[http.StatusRequestHeaderFieldsTooLarge] = true // net/http answers it: MaxHeaderBytes
	return found
}

// TestDocument_Errors compares the table of errors with the statuses and codes that the server can answer.
func TestDocument_Errors(t *testing.T) {
	documented := map[int][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| (\\d{3}) \\| (?:`([a-z_]+)`)? ?\\|").
		FindAllStringSubmatch(section(t, "Errors"), -1) {
		status, _ := strconv.Atoi(m[1])
		documented[status] = append(documented[status], m[2])
	}
	got, want := slices.Sorted(maps.Keys(documented)), slices.Sorted(maps.Keys(answerable(t)))
	if !slices.Equal(got, want) {
		t.Errorf("the document has the statuses %d, the server answers %d", got, want)
	}
	for code := connect.CodeCanceled; code <= connect.CodeUnauthenticated; code++ {
		status := statuses[code]
		switch code {
		case connect.CodeInternal, connect.CodeDataLoss:
			status = http.StatusInternalServerError
		case connect.CodeNotFound:
			status = http.StatusNotFound
		}
		if status != 0 && !slices.Contains(documented[status], code.String()) {
			t.Errorf("the document has status %d with %q, not with %s", status, documented[status], code)
		}
	}
}

// TestDocument_Calls checks that the document shows or describes every call.
func TestDocument_Calls(t *testing.T) {
	text, err := os.ReadFile("../../../docs/any-language.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range calls.All {
		if !regexp.MustCompile(call.HTTP() + "[` ]").Match(text) {
			t.Errorf("the document has no %s", call.HTTP())
		}
	}
}

// TestDocument_Metrics compares the table of metrics with those of the sidecar.
func TestDocument_Metrics(t *testing.T) {
	s := New(api.New(map[string]pull.Step{}), 1, slog.New(slog.DiscardHandler))
	all := make(chan *prometheus.Desc)
	go func() {
		s.registry.Describe(all)
		close(all)
	}()
	labels := map[string]string{}
	for d := range all {
		m := regexp.MustCompile(`fqName: "(recall_sidecar_[a-z_]+)".*variableLabels: \{(.*)\}\}`).
			FindStringSubmatch(d.String())
		if m != nil {
			labels[m[1]] = strings.ReplaceAll(m[2], ",", ", ")
		}
	}
	documented := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(recall_sidecar_[a-z_]+)` \\| ([a-z_`, ]*)\\| [^|]+ \\|$").
		FindAllStringSubmatch(section(t, "Health, metrics, logs"), -1) {
		documented[m[1]] = strings.TrimSpace(strings.ReplaceAll(m[2], "`", ""))
	}
	if len(labels) < 5 || !maps.Equal(documented, labels) {
		t.Errorf("the document has %v, the sidecar %v", documented, labels)
	}
}
