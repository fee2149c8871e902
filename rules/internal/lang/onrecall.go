package lang

import (
	"regexp"
	"slices"
	"strings"

	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/rules/internal/policy"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// knownSteps are the names of steps that hosts usually have; a host may have others.
var knownSteps = []string{"notify", "history", "offline", "roaming", "attachments", "search", "push"}

var (
	stepPattern     = regexp.MustCompile(`^[a-z0-9_-]{1,64}$`) // as package shared has it
	languagePattern = regexp.MustCompile(`^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$`)
	fieldPattern    = regexp.MustCompile(`\{[^{}]*\}`)
)

// What a recall carries is kept with it, so it is bounded.
const (
	maxSteps            = 32 // as many as a host carries out
	maxLanguages        = 64
	maxPlaceholderBytes = 512
)

func (d *Decoder) onRecall(body *hclsyntax.Body) *policy.OnRecall {
	d.CheckBody(body, onRecallBlock)
	o := &policy.OnRecall{Disposition: policy.DispositionErase}
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
				d.Errorf(a.Expr.Range(), NameNear(d.Reporter, name, d.placeholders), "there is no placeholder %q", name)
			}
			d.use("placeholder", name)
		}
		if o.Silent {
			d.Errorf(silent.SrcRange, "Remove one of them.", "a silent recall shows no placeholder")
		}
	}
	d.disposition(o, body)
	return o
}

func (d *Decoder) steps(a *hclsyntax.Attribute) []string {
	var steps []string
	items, _ := d.List(a)
	if len(items) > maxSteps {
		d.Errorf(a.Expr.Range(), "", "%d steps; at most %d", len(items), maxSteps)
	}
	for _, i := range items {
		switch {
		case !stepPattern.MatchString(i.Text):
			d.Errorf(i.At, "A step is up to 64 of a-z, 0-9, _ and -.", "%q is not a name for a step", i.Text)
		case !slices.Contains(knownSteps, i.Text):
			if near := Nearest(i.Text, knownSteps); near != "" {
				d.Warnf(i.At, "If it is a step of the host's own, all is well.", "did you mean the step %q?", near)
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
			d.Errorf(a.Expr.Range(), DidYouMean(text, known)+"A disposition is "+quoteAll(known)+".", "unknown disposition %q",
				text)
			return
		}
	}
	switch {
	case retention != nil && o.Disposition != policy.DispositionArchive:
		d.Errorf(retention.SrcRange, "Write disposition = \"archive\" too, or remove it.",
			"a retention is only for what is archived")
	case retention != nil:
		o.Retention, _ = d.duration(retention, policy.MaxDuration)
	case o.Disposition == policy.DispositionArchive:
		d.Errorf(a.SrcRange, "Write how long, as in retention = \"365d\".", "what is archived needs a retention")
	}
}

func (d *Decoder) placeholderBlock(b *hclsyntax.Block) {
	d.CheckBody(b.Body, placeholderBlock)
	t := &policy.Placeholder{Name: d.name(b, placeholderBlock.Name), Texts: map[string]string{}}
	d.placeholders[t.Name] = t
	a := b.Body.Attributes["text"]
	if a == nil {
		return
	}
	object, ok := d.resolve(a.Expr).(*hclsyntax.ObjectConsExpr)
	if !ok || len(object.Items) == 0 {
		d.Errorf(a.Expr.Range(), "Write text = { en = \"{actor} took back a message\" }.",
			"text needs a text for each language")
		return
	}
	if len(object.Items) > maxLanguages {
		d.Errorf(a.Expr.Range(), "", "%d languages; at most %d", len(object.Items), maxLanguages)
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
		if _, twice := t.Texts[language]; twice {
			d.Errorf(at, "", "the language %q is there twice", language)
		}
		text, ok := d.textOf(item.ValueExpr, "the text of "+language)
		if ok {
			d.placeholderText(text, item.ValueExpr.Range())
		}
		t.Texts[language] = text
	}
}

// placeholderText refuses fields that a host would not fill in.
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
		d.Errorf(at, "", "a curly bracket is not closed or not opened")
	case text == "" || len(text) > maxPlaceholderBytes:
		d.Errorf(at, "", "the text of a placeholder has 1 to %d bytes, not %d", maxPlaceholderBytes, len(text))
	}
}
