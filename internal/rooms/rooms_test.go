// Package rooms checks that imports between the parts of this module go one way.
package rooms

import (
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/chat-recall/recall/"

// rooms names, for each package, those of this module that it may import outside of its tests.
// A package that is not here fails the test: decide where it belongs.
var rooms = map[string]string{
	"shared":                     "",
	"shared/recallv1":            "",
	"internal/hclfile":           "shared",
	"internal/metrics":           "shared",
	"internal/config":            "internal/hclfile shared",
	"internal/badgerdir":         "internal/hclfile shared",
	"internal/badgerdir/dirtest": "",
	"internal/golden":            "",
	"internal/problem":           "",
	"internal/rooms":             "",
	"internal/wire":              "shared shared/recallv1",

	"internal/natscluster":          "",
	"internal/natscluster/natstest": "host/hosttest internal/natscluster",
	"internal/index":                "internal/badgerdir internal/index/indexpb shared",
	"internal/index/indexpb":        "",

	"rules":                 "rules/internal/lang rules/internal/policy rules/internal/proof internal/hclfile",
	"rules/rulestest":       "rules/internal/lang rules/internal/policy rules/internal/proof internal/hclfile",
	"rules/internal/lang":   "rules/internal/policy internal/hclfile",
	"rules/internal/policy": "internal/hclfile",
	"rules/internal/proof":  "rules/internal/policy internal/hclfile",
	"rules/internal/twin":   "rules/internal/policy",

	"host":          "internal/config internal/hclfile internal/metrics internal/wire shared",
	"host/adapter":  "internal/problem shared",
	"host/hostprom": "shared",
	"host/hosttest": "host",

	"plugin": "plugin/internal/convert plugin/internal/engine plugin/internal/journal/jetstream internal/badgerdir " +
		"internal/config internal/index internal/wire rules rules/rulestest shared",
	"plugin/internal/clock":                "",
	"plugin/internal/clock/clocktest":      "",
	"plugin/internal/config":               "internal/config internal/hclfile shared",
	"plugin/internal/convert":              "plugin/internal/journal internal/badgerdir internal/index",
	"plugin/internal/journal":              "plugin/internal/clock internal/index shared",
	"plugin/internal/journal/jetstream":    "plugin/internal/journal internal/config shared",
	"plugin/internal/journal/journaltest":  "",
	"plugin/internal/journal/snapshottest": "plugin/internal/journal plugin/internal/journal/journaltest",
	"plugin/internal/delivery":             "plugin/internal/clock plugin/internal/journal internal/index shared",
	"plugin/internal/engine": "plugin/internal/clock plugin/internal/config plugin/internal/delivery " +
		"plugin/internal/journal internal/badgerdir internal/config internal/hclfile internal/index internal/metrics " +
		"internal/wire rules shared",
	"plugin/internal/faulty": "plugin/internal/clock plugin/internal/engine plugin/internal/journal/jetstream " +
		"internal/config internal/index internal/wire shared shared/recallv1",

	"sidecar/apiv1":              "",
	"sidecar/apiv1/apiv1connect": "sidecar/apiv1",
	"sidecar": "host internal/hclfile internal/problem shared sidecar/internal/api sidecar/internal/config " +
		"sidecar/internal/pull sidecar/internal/secret sidecar/internal/server sidecar/internal/webhook",
	"sidecar/internal/api":        "host shared sidecar/apiv1 sidecar/internal/pull",
	"sidecar/internal/calls":      "",
	"sidecar/internal/openapigen": "sidecar/internal/calls",
	"sidecar/internal/pull":       "shared",
	"sidecar/internal/server": "host host/hostprom internal/hclfile internal/problem shared sidecar/apiv1 " +
		"sidecar/apiv1/apiv1connect sidecar/internal/api sidecar/internal/calls sidecar/internal/config " +
		"sidecar/internal/pull sidecar/internal/secret",
	"sidecar/internal/npm":     "host/hosttest",
	"sidecar/sidecartest":      "host/hosttest",
	"sidecar/clients":          "",
	"sidecar/internal/webhook": "shared",
	"sidecar/internal/config":  "internal/hclfile internal/wire shared",
	"sidecar/internal/secret":  "internal/hclfile",

	"bench": "host host/hosttest internal/badgerdir internal/index internal/natscluster internal/wire rules shared " +
		"shared/recallv1 sidecar/apiv1 sidecar/apiv1/apiv1connect",
	"adapters/prosody":         "",
	"adapters/prosody/demo":    "adapters/prosody rules",
	"examples/minimal":         "host shared",
	"examples/cluster":         "examples/host-app/chat host internal/natscluster",
	"examples/host-app":        "examples/host-app/chat examples/host-app/replay",
	"examples/host-app/chat":   "host host/adapter shared",
	"examples/host-app/replay": "examples/host-app/chat host host/adapter shared",
}

// imports lists what each package of this module imports outside of its tests.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, line := range list(t, "-f", "{{.ImportPath}} {{join .Imports \" \"}}", module+"...") {
		words := strings.Fields(line)
		all[strings.TrimPrefix(words[0], module)] = words[1:]
	}
	return all
}

func list(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func TestImports_OneWay(t *testing.T) {
	all := imports(t)
	for _, pkg := range slices.Sorted(maps.Keys(all)) {
		allowed, known := rooms[pkg]
		if !known {
			t.Errorf("package %s is in no room", pkg)
		}
		for _, path := range all[pkg] {
			if name, ours := strings.CutPrefix(path, module); ours && !allows(allowed, name) {
				t.Errorf("%s imports %s; it may import: %s", pkg, name, allowed)
			}
		}
	}
	for pkg := range rooms {
		if _, there := all[pkg]; !there {
			t.Errorf("there is no package %s", pkg)
		}
	}
	t.Logf("the rooms, each with what it imports:\n%s", drawing(all))
}

func allows(allowed, name string) bool { return slices.Contains(strings.Fields(allowed), name) }

// Go refuses a circle of imports. This one finds a circle in what the rooms allow.
func TestImports_NoCircle(t *testing.T) {
	var visit func(pkg string, path []string)
	visit = func(pkg string, path []string) {
		if slices.Contains(path, pkg) {
			t.Fatalf("a circle: %s", strings.Join(append(path, pkg), " → "))
		}
		for next := range rooms {
			if next != pkg && allows(rooms[pkg], next) {
				visit(next, append(slices.Clone(path), pkg))
			}
		}
	}
	for pkg := range rooms {
		visit(pkg, nil)
	}
}

func TestImports_Foreign(t *testing.T) {
	const grpc, badger = "google.golang.org/grpc", "github.com/dgraph-io/badger"
	for pkg, refused := range map[string][]string{
		"shared":          {""}, // whatever is not of the standard library
		"rules":           {grpc, badger},
		"rules/rulestest": {grpc, badger},
		"internal/index":  {grpc, module + "plugin"},
		"host":            {badger},
	} {
		for _, dep := range list(t, "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", module+pkg) {
			for _, r := range refused {
				if dep != "" && dep != module+pkg && strings.HasPrefix(dep, r) {
					t.Errorf("%s depends on %s", pkg, dep)
				}
			}
		}
	}
}

// drawing is a line for each package that imports others of this module.
func drawing(all map[string][]string) string {
	var b strings.Builder
	for _, pkg := range slices.Sorted(maps.Keys(all)) {
		var to []string
		for _, path := range all[pkg] {
			if name, ours := strings.CutPrefix(path, module); ours {
				to = append(to, name)
			}
		}
		fmt.Fprintf(&b, "%-33s → %s\n", pkg, strings.Join(to, ", "))
	}
	return b.String()
}
