package lang

import (
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/rules/internal/policy"
)

// Function is a function that conditions can call.
type Function struct {
	Name  string
	Usage string
	About string
}

// Functions is every function of the rule language. docs/rules.md is generated from it.
var Functions = []Function{
	{"contains", `contains(list, value)`,
		"whether the list contains the value. One of them is a field, the other a literal, " +
			"as in `contains([\"image\", \"video\"], message.type)` and `contains(conversation.labels, \"legal_hold\")`"},
	{"startswith", `startswith(field, string)`, "whether the field starts with the string"},
	{"endswith", `endswith(field, string)`, "whether the field ends with the string"},
}

func (d *Decoder) call(e *hclsyntax.FunctionCallExpr) *policy.Condition {
	var names []string
	for _, f := range Functions {
		if names = append(names, f.Name); f.Name != e.Name {
			continue
		}
		if len(e.Args) != 2 {
			d.Errorf(e.Range(), "Write "+f.Usage+".", "%s takes two arguments, not %d", f.Name, len(e.Args))
			return nil
		}
		first, firstOK := d.operand(e.Args[0])
		second, secondOK := d.operand(e.Args[1])
		if !firstOK || !secondOK {
			return nil
		}
		if f.Name == "contains" {
			return d.contains(e, first, second)
		}
		return d.affix(e, policy.Operator(f.Name), first, second)
	}
	for _, arg := range e.Args {
		d.operand(arg) // reports a misspelled field in it too
	}
	d.Errorf(e.NameRange, DidYouMean(e.Name, names)+"There are "+strings.Join(names, ", ")+".", "unknown function %s",
		e.Name)
	return nil
}

func (d *Decoder) contains(e *hclsyntax.FunctionCallExpr, list, value operand) *policy.Condition {
	switch {
	case list.field != nil && value.field != nil, list.field == nil && value.field == nil:
		d.Errorf(e.Range(), "Write contains([\"…\"], field) or contains(field, \"…\").",
			"contains needs one field and one literal")
		return nil
	case list.field != nil:
		text, ok := hclfile.Text(value.value)
		switch {
		case list.field.Kind != policy.KindTexts:
			d.Errorf(list.at, "The list comes first. To search a string use startswith or endswith.",
				"%s is %s, not a list", list.field.Name, list.field.What())
			return nil
		case !ok:
			d.Errorf(value.at, "", "%s contains strings, not %s", list.field.Name, describe(value.value))
			return nil
		}
		return policy.NewQuestion(&policy.Question{Field: list.field, Operator: policy.OpHas, Texts: []string{text}},
			d.written(e))
	case value.field.Kind != policy.KindText && value.field.Kind != policy.KindWord:
		d.Errorf(value.at, "", "%s is %s; contains searches for a string or a word", value.field.Name, value.field.What())
		return nil
	}
	items, ok := d.listOf(list.value, list.at, "the list in contains")
	q := d.question(value.field, policy.OpOneOf)
	for _, i := range items {
		ok = d.literal(q, i.Text, i.At) && ok
	}
	if !ok {
		return nil
	}
	return policy.NewQuestion(q, d.written(e))
}

func (d *Decoder) affix(e *hclsyntax.FunctionCallExpr, op policy.Operator, where, what operand) *policy.Condition {
	if where.field == nil || what.field != nil {
		d.Errorf(e.Range(), "Write "+string(op)+"(field, \"…\").",
			"%s needs a field and then a string", op)
		return nil
	}
	if where.field.Kind != policy.KindText {
		d.Errorf(where.at, "Use == or contains.", "%s is %s; %s needs a string", where.field.Name, where.field.What(), op)
		return nil
	}
	text, ok := hclfile.Text(what.value)
	if !ok || text == "" {
		d.Errorf(what.at, "", "%s needs a string that is not empty", op)
		return nil
	}
	return policy.NewQuestion(&policy.Question{Field: where.field, Operator: op, Texts: []string{text}}, d.written(e))
}
