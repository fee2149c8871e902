package hclfile

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"golang.org/x/text/unicode/norm"
)

// Decoder reads the attributes of the blocks of one file, and reports values that it cannot use. An attribute that is
// null counts as not set.
type Decoder struct {
	*Reporter
	Language *Language
	Warn     bool // mistakes are warnings

	dir string // of the file, absolute; relative paths are relative to it
}

// NewDecoder returns a decoder for a file.
func NewDecoder(f File, l *Language) (*Decoder, error) {
	dir, err := filepath.Abs(filepath.Dir(f.Name))
	return &Decoder{Reporter: &Reporter{Files: []File{f}}, Language: l, dir: dir}, err
}

// Top returns the top of a file as a block without a type, so that the methods of Decoder read its attributes too.
func Top(name string, body *hclsyntax.Body) *hclsyntax.Block {
	return &hclsyntax.Block{Body: body, TypeRange: hcl.Range{Filename: name}}
}

// Value returns the value of an attribute; nil if it is not set.
func Value(b *hclsyntax.Block, name string) hclsyntax.Expression {
	a := b.Body.Attributes[name]
	if a == nil || IsNull(a.Expr) {
		return nil
	}
	return a.Expr
}

// attribute returns the name of an attribute, as in plugin.binary.
func attribute(b *hclsyntax.Block, name string) string {
	if b.Type == "" {
		return name
	}
	return b.Type + "." + name
}

// Mistakef reports a mistake in a block. detail says what to do.
func (d *Decoder) Mistakef(at hcl.Range, detail, format string, args ...any) {
	if d.Warn {
		d.Warnf(at, detail, format, args...)
		return
	}
	d.Errorf(at, detail, format, args...)
}

// Invalidf reports what is wrong with the value of an attribute that is set.
func (d *Decoder) Invalidf(b *hclsyntax.Block, name, detail, format string, args ...any) {
	d.Mistakef(Value(b, name).Range(), detail, "%s %s", attribute(b, name), fmt.Sprintf(format, args...))
}

// Missing reports that an attribute is not set. detail says what to set it to.
func (d *Decoder) Missing(b *hclsyntax.Block, name, detail string) {
	if b.Type == "" {
		d.Mistakef(b.TypeRange, detail, "the file needs %q", name)
		return
	}
	d.Mistakef(b.TypeRange, detail, "the block %q needs %q", b.Type, name)
}

// CheckBody reports everything in a block that is not one of its attributes. title is what diagnostics call the block,
// as in: a block "plugin".
func (d *Decoder) CheckBody(b *hclsyntax.Block, title string, known []string) {
	hint := fmt.Sprintf("%s has: %s.", strings.ToUpper(title[:1])+title[1:], strings.Join(known, ", "))
	for _, a := range b.Body.Attributes {
		if !slices.Contains(known, a.Name) {
			d.Mistakef(a.NameRange, hint, "%s has no %q", title, a.Name)
		}
	}
	for _, inner := range b.Body.Blocks {
		d.Mistakef(inner.TypeRange, hint, "%s has no block %q", title, inner.Type)
	}
}

// Flag returns true or false; false if the attribute is not set.
func (d *Decoder) Flag(b *hclsyntax.Block, name string) bool {
	e := Value(b, name)
	if e == nil {
		return false
	}
	is, ok := Flag(e)
	if !ok {
		d.Invalidf(b, name, "Write it without quotes.", "is true or false")
	}
	return is
}

// Text returns a text; "" if the attribute is not set.
func (d *Decoder) Text(b *hclsyntax.Block, name string) string {
	e := Value(b, name)
	if e == nil {
		return ""
	}
	text, ok := Text(e)
	switch {
	case !ok:
		d.Invalidf(b, name, "", "is not a text: write it between quotes")
	case text == "":
		d.Invalidf(b, name, "Remove it, or say what is meant.", "is empty")
	}
	return text
}

// Texts returns a list of texts, and the expression of each, which is nil if the expression is not a text. detail shows
// how to write the list.
func (d *Decoder) Texts(b *hclsyntax.Block, name, detail string) (texts []string, at []hclsyntax.Expression) {
	list := d.List(b, name, detail, "text")
	for i, e := range list {
		text, ok := Text(e)
		if !ok {
			d.Mistakef(e.Range(), detail, "%s[%d] is not a text: write it between quotes", attribute(b, name), i)
			e = nil
		}
		texts, at = append(texts, text), append(at, e)
	}
	return texts, at
}

// List returns the elements of a list that has at least one; nil if the attribute is not set. element is what the list
// is made of, and detail shows how to write it.
func (d *Decoder) List(b *hclsyntax.Block, name, detail, element string) []hclsyntax.Expression {
	e := Value(b, name)
	if e == nil {
		return nil
	}
	list, ok := e.(*hclsyntax.TupleConsExpr)
	if !ok || len(list.Exprs) == 0 {
		d.Invalidf(b, name, detail, "is a list of at least one %s", element)
		return nil
	}
	return list.Exprs
}

// Number reads a whole number. into keeps its value if there is none. limit tells which numbers are valid.
func (d *Decoder) Number(b *hclsyntax.Block, name, limit string, into *int) {
	e := Value(b, name)
	if e == nil {
		return
	}
	n, ok := Number(e)
	if !ok {
		d.Invalidf(b, name, "Write digits, without quotes.", "is not a whole number; %s", limit)
		return
	}
	*into = n
}

// Duration reads a duration. into keeps its value if there is none. limit tells which durations are valid.
func (d *Decoder) Duration(b *hclsyntax.Block, name, limit string, into *time.Duration) {
	text := d.Text(b, name)
	if text == "" {
		return
	}
	is, err := time.ParseDuration(text)
	if err != nil {
		d.Invalidf(b, name, "", "is %.80q; a duration such as \"%s\", %s", text, *into, limit)
		return
	}
	*into = is
}

// Path returns the absolute path of something; "" if the attribute is not set.
func (d *Decoder) Path(b *hclsyntax.Block, name string) string {
	e := Value(b, name)
	if e == nil {
		return ""
	}
	return d.Resolve(e, attribute(b, name))
}

// NeedPath is Path for an attribute that must be set. what is the thing at the path.
func (d *Decoder) NeedPath(b *hclsyntax.Block, name, what string) string {
	if Value(b, name) == nil {
		d.Missing(b, name, "Name "+what+".")
	}
	return d.Path(b, name)
}

// Resolve returns the absolute path of an expression, which diagnostics call what.
func (d *Decoder) Resolve(e hclsyntax.Expression, what string) string {
	text, ok := Text(e)
	if !ok {
		d.Mistakef(e.Range(), "", "%s is not a path: write a text between quotes", what)
		return ""
	}
	if err := CheckPath(text, d.Language); err != nil {
		detail := ""
		if word := shellWord(text); word != "" {
			detail = "It may be relative to this file. For what is really named " + word + " write ./" + word + "."
		}
		d.Mistakef(e.Range(), detail, "%s %v", what, err)
		return ""
	}
	if !filepath.IsAbs(text) {
		return filepath.Join(d.dir, text)
	}
	return filepath.Clean(text)
}

// CheckPath tells what is wrong with a path in a file. Nothing expands ~ or $HOME, so a path that begins with one would
// be a folder of that name. HCL would normalize a path that is not in Unicode NFC to another path.
func CheckPath(path string, l *Language) error {
	switch {
	case path == "":
		return errors.New("is empty")
	case strings.ContainsRune(path, 0):
		return errors.New("has a NUL byte, which no path has")
	case shellWord(path) != "":
		return fmt.Errorf("begins with %s, which only a shell replaces: write the path itself", shellWord(path))
	case !utf8.ValidString(path):
		return fmt.Errorf("is %.80q, which is not valid UTF-8: %s cannot name it; rename it, or link to it", path, l.Name)
	case !norm.NFC.IsNormalString(path):
		return fmt.Errorf("is %.80q, which is not in Unicode NFC: %s cannot name it; rename it, or link to it", path, l.Name)
	}
	return nil
}

// shellWord returns the ~ or $HOME at the start of a path, or "".
func shellWord(path string) string {
	if path == "" || path[0] != '~' && path[0] != '$' {
		return ""
	}
	word, _, _ := strings.Cut(path, "/")
	return word
}

// A wider set of characters would look like other hosts, or like a port or a path.
var hostName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,253}$`)

// IsHost reports whether text is the name of a host, or an IP address without brackets and zone.
func IsHost(text string) bool {
	ip, err := netip.ParseAddr(text)
	return err == nil && ip.Zone() == "" || hostName.MatchString(text)
}
