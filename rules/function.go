package rules

import (
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/internal/hclfile"
)

// function is one function that a condition may call.
type function struct {
	name  string
	usage string
	about string
}

// functions is every function there is. The reference for operators is made from it.
var functions = []function{
	{"contains", `contains(list, value)`, "whether the list has the value: one of them is a field, the other is written out, as in " +
		"`contains([\"image\", \"video\"], message.type)` and `contains(conversation.labels, \"legal_hold\")`"},
	{"startswith", `startswith(field, text)`, "whether the field begins with the text"},
	{"endswith", `endswith(field, text)`, "whether the field ends with the text"},
}

func (d *decoder) call(e *hclsyntax.FunctionCallExpr) *condition {
	var names []string
	for _, f := range functions {
		if names = append(names, f.name); f.name != e.Name {
			continue
		}
		if len(e.Args) != 2 {
			d.Errorf(e.Range(), "Write "+f.usage+".", "%s takes two arguments, not %d", f.name, len(e.Args))
			return nil
		}
		first, firstOK := d.operand(e.Args[0])
		second, secondOK := d.operand(e.Args[1])
		if !firstOK || !secondOK {
			return nil
		}
		if f.name == "contains" {
			return d.contains(e, first, second)
		}
		return d.affix(e, operator(f.name), first, second)
	}
	for _, arg := range e.Args {
		d.operand(arg) // a misspelt field in it is worth reporting too
	}
	d.Errorf(e.NameRange, didYouMean(e.Name, names)+"There are "+strings.Join(names, ", ")+".", "unknown function %s",
		e.Name)
	return nil
}

func (d *decoder) contains(e *hclsyntax.FunctionCallExpr, list, value operand) *condition {
	switch {
	case list.field != nil && value.field != nil, list.field == nil && value.field == nil:
		d.Errorf(e.Range(), "Write contains([\"…\"], field) or contains(field, \"…\").",
			"contains needs one field and one value that is written out")
		return nil
	case list.field != nil:
		text, ok := hclfile.Text(value.value)
		switch {
		case list.field.kind != textsKind:
			d.Errorf(list.at, "The list comes first. To look into a text there are startswith and endswith.",
				"%s is %s, not a list", list.field.name, list.field.what())
			return nil
		case !ok:
			d.Errorf(value.at, "", "%s holds texts, not %s", list.field.name, describe(value.value))
			return nil
		}
		return newQuestion(&question{field: list.field, operator: has, texts: []string{text}}, d.written(e))
	case value.field.kind != textKind && value.field.kind != wordKind:
		d.Errorf(value.at, "", "%s is %s; contains looks for a text or a word", value.field.name, value.field.what())
		return nil
	}
	items, ok := d.listOf(list.value, list.at, "contains")
	q := &question{field: value.field, operator: oneOf}
	for _, i := range items {
		ok = d.literal(q, i.text, i.at) && ok
	}
	if !ok {
		return nil
	}
	return newQuestion(q, d.written(e))
}

func (d *decoder) affix(e *hclsyntax.FunctionCallExpr, op operator, where, what operand) *condition {
	if where.field == nil || what.field != nil {
		d.Errorf(e.Range(), "Write "+string(op)+"(field, \"…\").",
			"%s needs a field and then a text that is written out", op)
		return nil
	}
	if where.field.kind != textKind {
		d.Errorf(where.at, "Use == or contains.", "%s is %s; %s looks into a text", where.field.name, where.field.what(), op)
		return nil
	}
	text, ok := hclfile.Text(what.value)
	if !ok || text == "" {
		d.Errorf(what.at, "", "%s needs a text that is not empty", op)
		return nil
	}
	return newQuestion(&question{field: where.field, operator: op, texts: []string{text}}, d.written(e))
}
