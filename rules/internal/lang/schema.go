package lang

import (
	"slices"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// AttributeSpec is one attribute that a block may have. The reference for operators is made from these tables.
type AttributeSpec struct {
	Name  string
	Value string // what may be written there
	About string
}

// BlockSpec is one kind of block.
type BlockSpec struct {
	Name          string
	Label         string // what the one label names; empty: the block has none
	LabelOptional bool
	About         string
	Attributes    []AttributeSpec
	Required      []string // attributes that must be there
	Blocks        []*BlockSpec
}

func (s *BlockSpec) attributeNames() []string {
	var names []string
	for _, a := range s.Attributes {
		names = append(names, a.Name)
	}
	return names
}

func (s *BlockSpec) block(name string) *BlockSpec {
	for _, b := range s.Blocks {
		if b.Name == name {
			return b
		}
	}
	return nil
}

// RuleFile is the whole of a rule file.
var RuleFile = &BlockSpec{Name: "a rule file", Blocks: []*BlockSpec{policyBlock, permitBlock, forbidBlock, windowBlock, localsBlock, limitBlock, placeholderBlock, onRecallBlock}}

var policyBlock = &BlockSpec{
	Name:  "policy",
	About: "What holds for the whole policy. At most one in all files.",
	Attributes: []AttributeSpec{
		{"window", "duration", "How long after sending a permit that names no window holds, at most 7d. Without it 2m."},
		{"clock_skew", "duration", "How far ahead of the plugin's clock a request may say it was made, at most 5m. Without it 5s."},
	},
}

var messageScope = []AttributeSpec{
	{"tenant", "list of texts", "The tenants it is about. Default: all."},
	{"conversation", "list of words", "The conversation types it is about: `single`, `group`, `chatroom`. Default: all."},
	{"type", "list of words",
		"The message types it is about: `text`, `image`, `audio`, `video`, `file`, `location`, `custom`, `combine`, `command`. Default: all."},
}

var ruleScope = with(messageScope,
	AttributeSpec{"role", "list of words",
		"The roles of the actor it is about: `owner`, `admin`, `member`, `system`, `none`. Default: all in a `forbid`; in a " +
			"`permit` all but `none`, unless its condition compares `actor.role` with `none`."},
	AttributeSpec{"sender", "bool", "`true`: only when the actor sent the message; `false`: only when somebody else did. Without it both."},
	AttributeSpec{"when", "condition", "What must hold too."},
	AttributeSpec{"mode", "`\"shadow\"`", "The rule is evaluated and what it would change is reported, but it never decides."},
)

var permitBlock = &BlockSpec{
	Name:  "permit",
	Label: "name",
	About: "Allows a recall, unless a forbid matches. The first permit in file order whose scope, condition and requirements hold decides.",
	Attributes: with(ruleScope,
		AttributeSpec{"window", "duration or `\"any\"`", "How long after sending it holds, the last moment included, at most 7d. `\"any\"` is no end, " +
			"and only for permits under which no member takes back an own message: `sender = false`, or a `role` without `member`. Without it the first " +
			"`window` block about the message, and then the window of `policy`."},
		AttributeSpec{"reason", "`\"required\"`", "The request must give a reason."},
		AttributeSpec{"limit", "text", "The name of a `limit` block that must have room."},
	),
	Blocks: []*BlockSpec{onRecallBlock},
}

var forbidBlock = &BlockSpec{
	Name:  "forbid",
	Label: "name",
	About: "Denies a recall, whatever permits it.",
	Attributes: with(ruleScope,
		AttributeSpec{"code", "text", "The code of the refusal: lower-case letters, digits and _. Without it `forbidden`."},
	),
}

var windowBlock = &BlockSpec{
	Name:  "window",
	Label: "name",
	About: "Another window for some messages, wherever a permit names none. The first in file order that is about the message counts.",
	Attributes: with(messageScope,
		AttributeSpec{"within", "duration", "How long after sending, the last moment included, at most 7d."},
	),
	Required: []string{"within"},
}

var localsBlock = &BlockSpec{
	Name:  "locals",
	About: "Names for values and conditions: `name = …`, used as `local.name` wherever the value or condition could stand, in every file.",
}

var limitBlock = &BlockSpec{
	Name:  "limit",
	Label: "name",
	About: "A bound on how many recalls may happen in any period of a length. Only a recall that was committed spends one; a change of the rules forgets nothing. Tenants never share a count.",
	Attributes: []AttributeSpec{
		{"key", "field or list of fields", "What is counted apart, as in `actor.id` or `[actor.id, conversation.id]`."},
		{"rate", "text", "How many in which time, as in `\"20/1m\"`: 1 to 1000 in 1s to 7d."},
	},
	Required: []string{"key", "rate"},
}

var placeholderBlock = &BlockSpec{
	Name:  "placeholder",
	Label: "name",
	About: "What clients show where a recalled message was.",
	Attributes: []AttributeSpec{
		{"text", "map of texts", "A text for each language, as in `{ en = \"{actor} took back a message\" }`, at most 512 bytes each and 64 languages."},
	},
	Required: []string{"text"},
}

var onRecallBlock = &BlockSpec{
	Name:  "on_recall",
	About: "What a recall asks of the host. In a permit it is for that permit; beside the rules, at most once, it is for every permit that has none of its own.",
	Attributes: []AttributeSpec{
		{"steps", "list of texts",
			"The steps to run: `notify`, `history`, `offline`, `roaming`, `attachments`, `search`, `push` or the host's own, at most 32. The others are not part of such a recall; one that the host lacks when the recall is committed is recorded as unsupported. Without it every step that the host has."},
		{"silent", "bool", "Clients remove the message and show nothing in its place."},
		{"placeholder", "text", "The name of a `placeholder` block. Without it clients show the host's own words."},
		{"disposition", "`\"erase\"` or `\"archive\"`", "What the host does with the content: nothing of it is left, or it is kept where only compliance reads it. Users do not see it either way. Without it `erase`."},
		{"retention", "duration", "How long an archive keeps it. Needed with `archive`, and only then."},
	},
}

func with(base []AttributeSpec, more ...AttributeSpec) []AttributeSpec {
	return append(append([]AttributeSpec(nil), base...), more...)
}

// CheckBody reports every attribute and block of body that spec does not have, and what is missing.
func (r *Reporter) CheckBody(body *hclsyntax.Body, spec *BlockSpec) {
	for _, a := range sortedAttributes(body) {
		if !slices.Contains(spec.attributeNames(), a.Name) {
			r.unknown(a.NameRange, spec, "attribute", a.Name, spec.attributeNames())
		}
	}
	var blocks []string
	for _, b := range spec.Blocks {
		blocks = append(blocks, b.Name)
	}
	for _, b := range body.Blocks {
		inner := spec.block(b.Type)
		if inner == nil {
			r.unknown(b.TypeRange, spec, "block", b.Type, blocks)
			continue
		}
		r.checkLabels(b, inner)
	}
	for _, name := range spec.Required {
		if body.Attributes[name] == nil {
			at := body.SrcRange // starts at the opening brace
			at.End = at.Start
			r.Errorf(at, "", "%s needs the attribute %q", spec.Name, name)
		}
	}
}

func (r *Reporter) unknown(at hcl.Range, spec *BlockSpec, kind, name string, known []string) {
	advice := DidYouMean(name, known)
	switch {
	case len(known) == 1:
		advice += "There is only " + known[0] + "."
	case len(known) > 0:
		advice += "There are " + strings.Join(known, ", ") + "."
	case kind == "block":
		advice += "To set an attribute write " + name + " = …"
	}
	r.Errorf(at, advice, "%s has no %s %q", spec.Name, kind, name)
}

func (r *Reporter) checkLabels(b *hclsyntax.Block, spec *BlockSpec) {
	switch {
	case spec.Label == "" && len(b.Labels) > 0:
		r.Errorf(b.LabelRanges[0], "", "%s takes no name", spec.Name)
	case spec.Label != "" && len(b.Labels) == 0 && !spec.LabelOptional:
		r.Errorf(b.TypeRange, "Write "+spec.Name+` "some_name" { … }.`, "%s needs a name", spec.Name)
	case spec.Label != "" && len(b.Labels) > 1:
		r.Errorf(b.LabelRanges[1], "", "%s takes one name", spec.Name)
	}
}

func sortedAttributes(body *hclsyntax.Body) []*hclsyntax.Attribute {
	out := make([]*hclsyntax.Attribute, 0, len(body.Attributes))
	for _, a := range body.Attributes {
		out = append(out, a)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].SrcRange.Start.Byte < out[j].SrcRange.Start.Byte })
	return out
}
