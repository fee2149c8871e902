// Package config reads plugin.hcl, the file from which a host starts the plugin.
package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/chat-recall/recall/shared"
)

// Config is what the plugin takes from plugin.hcl. Paths that the file gives relative are relative to the file.
type Config struct {
	IndexPath string   // the folder of the index; missing folders are made
	RulePaths []string // rule files, and folders of them; none: the built-in policy

	IndexCreate       bool // index { create = true }: make a new, empty index though one was here before
	RefuseBrokenRules bool // rules { on_error = "refuse" }: a start with broken rule files fails
}

const (
	pluginBlock = "plugin" // what the host reads: how to start this process
	indexBlock  = "index"
	rulesBlock  = "rules"
)

// attributes are those of each block; the host checks its own.
var attributes = map[string][]string{
	pluginBlock: nil,
	indexBlock:  {"path", "create"},
	rulesBlock:  {"paths", "on_error"},
}

// Load reads and checks the file. The Config is nil where there are errors, and never a part of one.
func Load(file string) (*Config, shared.Diagnostics) {
	src, err := readFile(file)
	if err != nil {
		return nil, shared.Diagnostics{{
			Severity: shared.SeverityError, Summary: "cannot be read: " + err.Error(), File: file,
			Detail: "the plugin is configured by this file; see the plugin.hcl that comes with it",
		}}
	}
	return Parse(file, src)
}

// Parse is Load for a file whose text is at hand.
func Parse(file string, src []byte) (*Config, shared.Diagnostics) {
	r := &reporter{file: file, src: src}
	body := r.parse()
	if body == nil {
		return nil, r.found
	}
	d := decoder{reporter: r, dir: filepath.Dir(file)}
	cfg := d.config(body)
	if r.found.HasErrors() {
		return nil, r.sorted()
	}
	return cfg, r.sorted()
}

// decoder makes a Config of a syntax tree.
type decoder struct {
	*reporter
	dir string
}

func (d *decoder) config(body *hclsyntax.Body) *Config {
	for _, a := range body.Attributes {
		d.errorf(a.NameRange, knownBlocks(), "%q does not belong at the top of the file", a.Name)
	}
	cfg := &Config{}
	first := map[string]hcl.Range{}
	for _, b := range body.Blocks {
		known, ok := attributes[b.Type]
		if !ok {
			d.errorf(b.TypeRange, knownBlocks(), "there is no block %q", b.Type)
			continue
		}
		if at, dup := first[b.Type]; dup {
			d.errorf(b.TypeRange, "join the two", "there is a block %q already in line %d", b.Type, at.Start.Line)
			continue
		}
		first[b.Type] = b.TypeRange
		if len(b.Labels) > 0 {
			d.errorf(b.LabelRanges[0], "write "+b.Type+" { … }", "a block %q has no label", b.Type)
		}
		if b.Type == pluginBlock {
			continue
		}
		d.checkBody(b, known)
		switch b.Type {
		case indexBlock:
			cfg.IndexPath = d.path(b, "path")
			cfg.IndexCreate = d.flag(b, "create")
		case rulesBlock:
			cfg.RulePaths = d.paths(b, "paths")
			cfg.RefuseBrokenRules = d.word(b, "on_error", "last_good", "refuse") == "refuse"
		}
	}
	if _, ok := first[indexBlock]; !ok {
		d.errorf(hcl.Range{}, `say where the index is: index { path = "data/index" }`, "there is no block \"index\"")
	}
	return cfg
}

func knownBlocks() string {
	names := make([]string, 0, len(attributes))
	for name := range attributes {
		names = append(names, name)
	}
	slices.Sort(names)
	return "the file has the blocks " + strings.Join(names, ", ")
}

// checkBody reports everything in a block that is not one of its attributes.
func (d *decoder) checkBody(b *hclsyntax.Block, known []string) {
	hint := fmt.Sprintf("a block %q has: %s", b.Type, strings.Join(known, ", "))
	for _, a := range b.Body.Attributes {
		if !slices.Contains(known, a.Name) {
			d.errorf(a.NameRange, hint, "a block %q has no %q", b.Type, a.Name)
		}
	}
	for _, inner := range b.Body.Blocks {
		d.errorf(inner.TypeRange, hint, "a block %q has no block %q", b.Type, inner.Type)
	}
}

// attribute finds an attribute that its block must have.
func (d *decoder) attribute(b *hclsyntax.Block, name string) hclsyntax.Expression {
	a := b.Body.Attributes[name]
	if a == nil {
		d.errorf(b.TypeRange, "", "this block needs %q", name)
		return nil
	}
	return a.Expr
}

func (d *decoder) path(b *hclsyntax.Block, name string) string {
	if e := d.attribute(b, name); e != nil {
		return d.resolve(e)
	}
	return ""
}

func (d *decoder) paths(b *hclsyntax.Block, name string) []string {
	e := d.attribute(b, name)
	if e == nil {
		return nil
	}
	list, ok := e.(*hclsyntax.TupleConsExpr)
	if !ok || len(list.Exprs) == 0 {
		d.errorf(e.Range(), fmt.Sprintf(`for example %s = ["rules.d"]; without the block the built-in policy holds`, name),
			"%q is a list of at least one path", name)
		return nil
	}
	var out []string
	for _, one := range list.Exprs {
		out = append(out, d.resolve(one))
	}
	return out
}

// flag reads true or false; false where it is not set.
func (d *decoder) flag(b *hclsyntax.Block, name string) bool {
	a := b.Body.Attributes[name]
	if a == nil {
		return false
	}
	l, ok := a.Expr.(*hclsyntax.LiteralValueExpr)
	if !ok || l.Val.IsNull() || l.Val.Type() != cty.Bool {
		d.errorf(a.Expr.Range(), "without quotes", "%q is true or false", name)
		return false
	}
	return l.Val.True()
}

// word reads one of the known words; the first where it is not set.
func (d *decoder) word(b *hclsyntax.Block, name string, known ...string) string {
	a := b.Body.Attributes[name]
	if a == nil {
		return known[0]
	}
	text, ok := literal(a.Expr)
	if !ok || !slices.Contains(known, text) {
		d.errorf(a.Expr.Range(), "", "%q is one of %q", name, known)
	}
	return text
}

// resolve returns the path that an expression spells.
func (d *decoder) resolve(e hclsyntax.Expression) string {
	text, ok := literal(e)
	switch {
	case !ok:
		d.errorf(e.Range(), "", "is not a path: write a text between quotes")
	case text == "":
		d.errorf(e.Range(), "", "the path is empty")
	case strings.IndexByte(text, 0) >= 0 || !utf8.ValidString(text):
		d.errorf(e.Range(), "", "the path holds a NUL or is not UTF-8")
	case !filepath.IsAbs(text):
		return filepath.Join(d.dir, text)
	}
	return filepath.Clean(text)
}

// literal is the text of a quoted string. Nothing is evaluated.
func literal(e hclsyntax.Expression) (string, bool) {
	t, ok := e.(*hclsyntax.TemplateExpr)
	if !ok {
		return "", false
	}
	var text strings.Builder
	for _, part := range t.Parts {
		l, ok := part.(*hclsyntax.LiteralValueExpr)
		if !ok {
			return "", false
		}
		text.WriteString(l.Val.AsString())
	}
	return text.String(), true
}
