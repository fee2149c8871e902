package lang

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/rules/internal/policy"
)

// knownSteps are the standard steps. A host can have others.
var knownSteps = []string{"notify", "history", "offline", "roaming", "attachments", "search", "push"}

var (
	stepPattern     = regexp.MustCompile(`^[a-z0-9_-]{1,64}$`) // as in package shared
	languagePattern = regexp.MustCompile(`^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$`)
	fieldPattern    = regexp.MustCompile(`\{[^{}]*\}`)
)

// Every recall stores what its permit asks of the host, so that is bounded.
const (
	maxSteps     = 32 // as many as a host can have
	maxLanguages = 64
	maxTextBytes = 512
)

func (d *Decoder) onRecall(body *hclsyntax.Body) *policy.OnRecall {
	d.CheckBody(body, onRecallBlock)
	o := &policy.OnRecall{Disposition: policy.DispositionErase, Cascade: policy.DefaultCascade}
	if a := body.Attributes["steps"]; a != nil {
		o.Steps = d.steps(a)
	}
	silent := body.Attributes["silent"]
	if silent != nil {
		o.Silent, _ = d.Flag(silent)
	}
	if a := body.Attributes["placeholder"]; a != nil {
		if name, ok := d.Text(a); ok {
			if o.Placeholder = d.placeholders[name]; o.Placeholder == nil {
				d.Errorf(a.Expr.Range(), NameNear(d.Reporter, name, d.placeholders), "unknown placeholder %q", name)
			}
			d.use("placeholder", name)
		}
		if o.Silent {
			d.Errorf(silent.SrcRange, "Remove one of them.", "a silent recall shows no placeholder")
		}
	}
	if a := body.Attributes["cascade"]; a != nil {
		o.Cascade = d.cascade(a)
	}
	d.disposition(o, body)
	return o
}

func (d *Decoder) cascade(a *hclsyntax.Attribute) []string {
	var kinds []string
	if list, ok := d.resolve(a.Expr).(*hclsyntax.TupleConsExpr); ok && len(list.Exprs) == 0 {
		return nil // nothing but edits
	}
	items, _ := d.List(a)
	for _, i := range items {
		switch {
		case i.Text == "edit":
			d.Errorf(i.At, "Remove it.", "edits are always recalled with their original")
		case !slices.Contains(policy.CascadeKinds, i.Text):
			d.Errorf(i.At, DidYouMean(i.Text, policy.CascadeKinds)+"There are "+quoteAll(policy.CascadeKinds)+".",
				"unknown kind of relation %q", i.Text)
		}
		kinds = append(kinds, i.Text)
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

func (d *Decoder) steps(a *hclsyntax.Attribute) []string {
	var steps []string
	items, _ := d.List(a)
	if len(items) > maxSteps {
		d.Errorf(a.Expr.Range(), "", "%d steps, but at most %d are allowed", len(items), maxSteps)
	}
	for _, i := range items {
		switch {
		case !stepPattern.MatchString(i.Text):
			d.Errorf(i.At, "The name of a step has at most 64 of a-z, 0-9, _ and -.", "%q is not a valid name of a step", i.Text)
		case !slices.Contains(knownSteps, i.Text):
			if near := Nearest(i.Text, knownSteps); near != "" {
				d.Warnf(i.At, "If it is a custom step of the host, ignore this warning.", "did you mean the step %q?", near)
			}
		}
		steps = append(steps, i.Text)
	}
	return steps
}

func (d *Decoder) disposition(o *policy.OnRecall, body *hclsyntax.Body) {
	a, retention := body.Attributes["disposition"], body.Attributes["retention"]
	if a != nil {
		known := []string{policy.DispositionErase, policy.DispositionArchive}
		text, ok := d.Text(a)
		if o.Disposition = text; ok && !slices.Contains(known, text) {
			d.Errorf(a.Expr.Range(), DidYouMean(text, known)+"A disposition is "+quoteAll(known)+".",
				"unknown disposition %q",
				text)
			return
		}
	}
	switch {
	case retention != nil && o.Disposition != policy.DispositionArchive:
		d.Errorf(retention.SrcRange, "Write disposition = \"archive\" too, or remove it.",
			"retention is only allowed with disposition = \"archive\"")
	case retention != nil:
		o.Retention, _ = d.duration(retention, policy.MaxDuration)
	case o.Disposition == policy.DispositionArchive:
		d.Errorf(a.SrcRange, "Set how long the archive keeps the content, as in retention = \"365d\".",
			"disposition = \"archive\" needs a retention")
	}
}

func (d *Decoder) placeholderBlock(b *hclsyntax.Block) {
	d.CheckBody(b.Body, placeholderBlock)
	t := &policy.Placeholder{Name: d.name(b, placeholderBlock.Name)}
	d.placeholders[t.Name] = t
	if a := b.Body.Attributes["text"]; a != nil {
		t.Texts = d.texts(a, "{actor} recalled a message", d.placeholderText)
	}
}

// texts decodes a map with one text per language. check checks each of them.
func (d *Decoder) texts(a *hclsyntax.Attribute, example string,
	check func(text string, at hcl.Range)) map[string]string {
	texts := map[string]string{}
	object, ok := d.resolve(a.Expr).(*hclsyntax.ObjectConsExpr)
	if !ok || len(object.Items) == 0 {
		d.Errorf(a.Expr.Range(), fmt.Sprintf("Write text = { en = %q }.", example),
			"text must be a map with one string per language")
		return texts
	}
	if len(object.Items) > maxLanguages {
		d.Errorf(a.Expr.Range(), "", "%d languages, but at most %d are allowed", len(object.Items), maxLanguages)
	}
	for _, item := range object.Items {
		language := ""
		if key, ok := item.KeyExpr.(*hclsyntax.ObjectConsKeyExpr); ok {
			if language = hcl.ExprAsKeyword(key); language == "" {
				language, _ = hclfile.Text(key.Wrapped)
			}
		}
		at := item.KeyExpr.Range()
		if !languagePattern.MatchString(language) {
			d.Errorf(at, "Write it like en or \"zh-Hans\".", "this is not a language tag")
			continue
		}
		if _, twice := texts[language]; twice {
			d.Errorf(at, "", "the language %q is defined twice", language)
		}
		text, ok := d.textOf(item.ValueExpr, "the text of "+language)
		if ok {
			check(text, item.ValueExpr.Range())
		}
		texts[language] = text
	}
	return texts
}

// refusalText checks the text of a refusal. It has no fields; a later version may have some.
func (d *Decoder) refusalText(text string, at hcl.Range) {
	switch {
	case strings.ContainsAny(text, "{}"):
		d.Errorf(at, "Write the sentence without curly brackets.", "the text of a refusal has no fields")
	case text == "" || len(text) > maxTextBytes:
		d.Errorf(at, "", "the text of a refusal must have 1 to %d bytes, not %d", maxTextBytes, len(text))
	}
}

// placeholderText checks the text of a placeholder: its length and its fields.
func (d *Decoder) placeholderText(text string, at hcl.Range) {
	var names []string
	for _, f := range policy.PlaceholderFields {
		names = append(names, f.Name)
	}
	for _, found := range fieldPattern.FindAllString(text, -1) {
		if name := found[1 : len(found)-1]; !slices.Contains(names, name) {
			d.Errorf(at, DidYouMean(name, names)+"There are {"+strings.Join(names, "}, {")+"}.", "a placeholder has no field %s",
				found)
		}
	}
	switch rest := fieldPattern.ReplaceAllString(text, ""); {
	case strings.ContainsAny(rest, "{}"):
		d.Errorf(at, "", "unbalanced curly bracket")
	case text == "" || len(text) > maxTextBytes:
		d.Errorf(at, "", "the text of a placeholder must have 1 to %d bytes, not %d", maxTextBytes, len(text))
	}
}
