package rules

import (
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/internal/hclfile"
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

func (d *decoder) onRecall(body *hclsyntax.Body) *OnRecall {
	d.checkBody(body, onRecallBlock)
	o := &OnRecall{Disposition: DispositionErase}
	if a := body.Attributes["steps"]; a != nil {
		o.Steps = d.steps(a)
	}
	silent := body.Attributes["silent"]
	if silent != nil {
		o.Silent, _ = d.flag(silent)
	}
	if a := body.Attributes["placeholder"]; a != nil {
		if name, ok := d.text(a); ok {
			if o.Placeholder = d.placeholders[name]; o.Placeholder == nil {
				d.Errorf(a.Expr.Range(), nameNear(d.reporter, name, d.placeholders), "there is no placeholder %q", name)
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

func (d *decoder) steps(a *hclsyntax.Attribute) []string {
	var steps []string
	items, _ := d.list(a)
	if len(items) > maxSteps {
		d.Errorf(a.Expr.Range(), "", "%d steps; at most %d", len(items), maxSteps)
	}
	for _, i := range items {
		switch {
		case !stepPattern.MatchString(i.text):
			d.Errorf(i.at, "A step is up to 64 of a-z, 0-9, _ and -.", "%q is not a name for a step", i.text)
		case !slices.Contains(knownSteps, i.text):
			if near := nearest(i.text, knownSteps); near != "" {
				d.Warnf(i.at, "If it is a step of the host's own, all is well.", "did you mean the step %q?", near)
			}
		}
		steps = append(steps, i.text)
	}
	return steps
}

func (d *decoder) disposition(o *OnRecall, body *hclsyntax.Body) {
	a, retention := body.Attributes["disposition"], body.Attributes["retention"]
	if a != nil {
		known := []string{DispositionErase, DispositionArchive}
		text, ok := d.text(a)
		if o.Disposition = text; ok && !slices.Contains(known, text) {
			d.Errorf(a.Expr.Range(), didYouMean(text, known)+"A disposition is "+quoteAll(known)+".", "unknown disposition %q",
				text)
			return
		}
	}
	switch {
	case retention != nil && o.Disposition != DispositionArchive:
		d.Errorf(retention.SrcRange, "Write disposition = \"archive\" too, or remove it.",
			"a retention is only for what is archived")
	case retention != nil:
		o.Retention, _ = d.duration(retention, maxDuration)
	case o.Disposition == DispositionArchive:
		d.Errorf(a.SrcRange, "Write how long, as in retention = \"365d\".", "what is archived needs a retention")
	}
}

func (d *decoder) placeholderBlock(b *hclsyntax.Block) {
	d.checkBody(b.Body, placeholderBlock)
	t := &Placeholder{Name: d.name(b, placeholderBlock.name), Texts: map[string]string{}}
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
func (d *decoder) placeholderText(text string, at hcl.Range) {
	var names []string
	for _, f := range PlaceholderFields {
		names = append(names, f.Name)
	}
	for _, found := range fieldPattern.FindAllString(text, -1) {
		if name := found[1 : len(found)-1]; !slices.Contains(names, name) {
			d.Errorf(at, didYouMean(name, names)+"There are {"+strings.Join(names, "}, {")+"}.", "a placeholder has no field %s",
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
