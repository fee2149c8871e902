package lang

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// AttributeSpec describes an attribute of a block. docs/rules.md is generated from these tables.
type AttributeSpec struct {
	Name  string
	Value string // what can be written there
	About string
}

// BlockSpec describes a kind of block.
type BlockSpec struct {
	Name          string
	Label         string // what its label is; empty: it has none
	LabelOptional bool
	About         string
	Attributes    []AttributeSpec
	Required      []string // names of attributes
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

// RuleFile describes a rule file.
var RuleFile = &BlockSpec{Name: "a rule file", Blocks: []*BlockSpec{
	policyBlock, permitBlock, forbidBlock, windowBlock, localsBlock, limitBlock, placeholderBlock, onRecallBlock,
}}

var policyBlock = &BlockSpec{
	Name:  "policy",
	About: "Defaults of the whole policy. At most one in all files.",
	Attributes: []AttributeSpec{
		{"window", "duration", "The window of permits that name none, at most 7d. Default: 2m."},
		{"timezone", "string", "The time zone of `request.weekday` and `request.time`, by its name in the IANA database, " +
			"as in `\"Asia/Shanghai\"`. Default: `UTC`."},
		{"own_window_limit", "`\"any\"`", "Windows may be longer than 7d, and `\"any\"`, also for own messages of senders " +
			"with the role `member` or `none`, as some messengers have it. Default: at most 7d."},
		{"clock_skew", "duration",
			"How far ahead of the plugin's clock the time of a request may be, at most 5m. Default: 5s."},
	},
}

var messageScope = []AttributeSpec{
	{"tenant", "list of strings", "The tenants that it applies to. Default: all."},
	{"conversation", "list of words",
		"The conversation types that it applies to: `single`, `group`, `chatroom`. Default: all."},
	{"type", "list of words", "The message types that it applies to: `text`, `image`, `audio`, `video`, `file`, " +
		"`location`, `custom`, `combine`, `command`. Default: all."},
}

var ruleScope = with(messageScope,
	AttributeSpec{"role", "list of words", "The roles of the actor that it applies to: `owner`, `admin`, `member`, " +
		"`system`, `none`. Default: in a `forbid` all; in a `permit` all but `none`, unless its condition compares " +
		"`actor.role` with `none`."},
	AttributeSpec{"sender", "bool",
		"`true`: only messages that the actor sent; `false`: only messages of others. Default: both."},
	AttributeSpec{"when", "condition", "A condition that must also be true."},
	AttributeSpec{"mode", "`\"shadow\"`",
		"The rule is evaluated and what it would change is reported, but it never decides."},
	AttributeSpec{"text", "map of strings", "The text for the user when this rule refuses a recall, one " +
		"text per language, as in `{ en = \"Ask a moderator to recall this message.\" }`: at most 64 languages, at most " +
		"512 bytes each. A permit refuses if it is the closest to matching. Default: standard words for the code, in " +
		"English and simplified Chinese."},
)

var permitBlock = &BlockSpec{
	Name:  "permit",
	Label: "name",
	About: "Permits a recall, unless a forbid matches. The first permit in file order whose scope, condition and " +
		"requirements are met decides.",
	Attributes: with(ruleScope,
		AttributeSpec{"window", "duration or `\"any\"`", "How long after sending it permits a recall, including the last " +
			"moment, at most 7d. `\"any\"` means no end. It is only allowed in permits under which nobody with the role " +
			"`member` or `none` recalls an own message: with `sender = false`, or with a `role` that contains neither; and " +
			"everywhere if the policy says `own_window_limit = \"any\"`. " +
			"Default: the first `window` block that applies to the message, else the window of `policy`."},
		AttributeSpec{"reason", "`\"required\"`", "The request must have a reason."},
		AttributeSpec{"limit", "string", "The name of a `limit` block, which must not be exhausted."},
	),
	Blocks: []*BlockSpec{onRecallBlock},
}

var forbidBlock = &BlockSpec{
	Name:  "forbid",
	Label: "name",
	About: "Refuses a recall, even if a permit matches.",
	Attributes: with(ruleScope,
		AttributeSpec{"code", "string", "The code of the refusal: lower-case letters, digits and _. Default: `forbidden`."},
	),
}

var windowBlock = &BlockSpec{
	Name:  "window",
	Label: "name",
	About: "The window of permits that name none, for some messages. The first in file order that applies to the " +
		"message " +
		"is used.",
	Attributes: with(messageScope,
		AttributeSpec{"within", "duration",
			"How long after sending a recall is permitted, including the last moment, at most 7d."},
	),
	Required: []string{"within"},
}

var localsBlock = &BlockSpec{
	Name: "locals",
	About: "Names for values and conditions: `name = …` defines `local.name`, which can replace the value or condition " +
		"in " +
		"every file.",
}

var limitBlock = &BlockSpec{
	Name:  "limit",
	Label: "name",
	About: "Limits how many recalls are permitted in any period of a length. Only committed recalls count. Counts " +
		"survive " +
		"a change of the rules. Each tenant is counted separately.",
	Attributes: []AttributeSpec{
		{"key", "field or list of fields",
			"Recalls with different values of these fields are counted separately, as in `actor.id` or " +
				"`[actor.id, conversation.id]`."},
		{"rate", "string", "How many recalls in which period, as in `\"20/1m\"`: 1 to 1000 in 1s to 7d."},
	},
	Required: []string{"key", "rate"},
}

var placeholderBlock = &BlockSpec{
	Name:  "placeholder",
	Label: "name",
	About: "The text that clients show instead of a recalled message.",
	Attributes: []AttributeSpec{
		{"text", "map of strings", "One text per language, as in `{ en = \"{actor} recalled a message\" }`: at most 64 " +
			"languages, at most 512 bytes each."},
	},
	Required: []string{"text"},
}

var onRecallBlock = &BlockSpec{
	Name: "on_recall",
	About: "What a recall asks of the host. Inside a permit it applies to that permit. At the top level, at most once, " +
		"it " +
		"applies to every permit that has none.",
	Attributes: []AttributeSpec{
		{"steps", "list of strings",
			"The steps to run: `notify`, `history`, `offline`, `roaming`, `attachments`, `search`, " +
				"`push` or custom steps of the host, at most 32. Other steps do not run. A step that the host does not have " +
				"when the recall is committed is recorded as unsupported. Default: every step that the host has."},
		{"silent", "bool", "Clients remove the message and show nothing instead."},
		{"placeholder", "string", "The name of a `placeholder` block. Default: clients show the host's own words."},
		{"cascade", "list of words", "The messages that are recalled together with a message because they relate to it: " +
			"`quote`, `forward`, `reply`, `thread`, and what relates so to those in turn. A message that a `forbid` matches " +
			"stays. Edits of a message are always recalled with it. Default: `[\"forward\"]`, because a forwarded " +
			"message is a copy. `[]` means none."},
		{"disposition", "`\"erase\"` or `\"archive\"`",
			"What the host does with the content: delete it completely, or keep " +
				"it where only compliance can read it. Users never see it again. Default: `erase`."},
		{"retention", "duration", "How long the archive keeps the content. Required with `archive`, not allowed otherwise."},
	},
}

func with(base []AttributeSpec, more ...AttributeSpec) []AttributeSpec {
	return append(append([]AttributeSpec(nil), base...), more...)
}

// CheckBody reports unknown attributes and blocks, wrong labels, and missing attributes.
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
		advice += "The only one is " + known[0] + "."
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
		r.Errorf(b.LabelRanges[0], "", "%s has no name", spec.Name)
	case spec.Label != "" && len(b.Labels) == 0 && !spec.LabelOptional:
		r.Errorf(b.TypeRange, "Write "+spec.Name+` "some_name" { … }.`, "%s needs a name", spec.Name)
	case spec.Label != "" && len(b.Labels) > 1:
		r.Errorf(b.LabelRanges[1], "", "%s has only one name", spec.Name)
	}
}

// sortedAttributes returns the attributes of a body in the order of the file.
func sortedAttributes(body *hclsyntax.Body) []*hclsyntax.Attribute {
	return slices.SortedFunc(maps.Values(body.Attributes), func(a, b *hclsyntax.Attribute) int {
		return cmp.Compare(a.SrcRange.Start.Byte, b.SrcRange.Start.Byte)
	})
}
