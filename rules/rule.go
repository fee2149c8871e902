package rules

import (
	"regexp"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// rule is one permit or forbid, compiled.
type rule struct {
	ref    RuleRef
	at     hcl.Range // the name in the file
	forbid bool
	scope  scope
	window time.Duration // of a permit; noEnd where it holds for ever
	code   string        // of a forbid
}

// noEnd is the window of a permit that says "any". No age is above it.
const noEnd = time.Duration(1<<63 - 1)

// scope is what a rule is about. An empty part is about all.
type scope struct {
	tenants       map[string]bool
	conversations set
	types         set
	roles         set
	sender        senderScope
}

type senderScope uint8

const (
	anybody senderScope = iota
	senderOnly
	othersOnly
)

// subject is an input with its words looked up once.
type subject struct {
	in           *Input
	conversation set
	typ          set
	role         set
	isSender     bool
}

func (s *scope) holds(t *subject) bool {
	return (s.conversations == 0 || s.conversations&t.conversation != 0) &&
		(s.types == 0 || s.types&t.typ != 0) &&
		(s.roles == 0 || s.roles&t.role != 0) &&
		(s.sender == anybody || (s.sender == senderOnly) == t.isSender) &&
		(s.tenants == nil || s.tenants[t.in.Tenant])
}

var (
	namePattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,63}$`)
	codePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
)

// rule decodes one permit or forbid. What it returns is used only if nothing was reported.
func (d *decoder) rule(b *hclsyntax.Block) *rule {
	spec := ruleFile.block(b.Type)
	r := &rule{forbid: b.Type == forbidBlock.name, at: b.TypeRange}
	if len(b.Labels) == 1 {
		r.at = b.LabelRanges[0]
		r.ref = refOf(b.Labels[0], b.TypeRange)
		d.ruleName(b.Labels[0], r.at)
	}
	d.checkBody(b.Body, spec)
	d.scope(&r.scope, b.Body)
	if r.forbid {
		r.code = d.code(b.Body)
	} else {
		r.window = d.permitWindow(r, b.Body)
	}
	return r
}

func (d *decoder) ruleName(name string, at hcl.Range) {
	switch {
	case !namePattern.MatchString(name):
		d.errorf(at, "A name is up to 64 letters, digits, _, - and ., and starts with a letter.", "this is not a name for a rule")
	case name == DefaultDeny || name == builtInForbid.ref.Name:
		d.errorf(at, "Give the rule another name.", "the name %q is taken by the engine itself", name)
	default:
		d.unique("rule "+name, "a rule named \""+name+"\"", at)
	}
}

func (d *decoder) scope(s *scope, body *hclsyntax.Body) {
	if a := body.Attributes["tenant"]; a != nil {
		items, _ := d.list(a)
		s.tenants = make(map[string]bool, len(items))
		for _, i := range items {
			if i.text == "" {
				d.errorf(i.at, "", "a tenant is never empty")
			}
			s.tenants[i.text] = true
		}
	}
	if a := body.Attributes["conversation"]; a != nil {
		s.conversations = d.words(a, conversationWords)
	}
	if a := body.Attributes["type"]; a != nil {
		s.types = d.words(a, typeWords)
	}
	if a := body.Attributes["role"]; a != nil {
		s.roles = d.words(a, roleWords)
	}
	if a := body.Attributes["sender"]; a != nil {
		s.sender = othersOnly
		if yes, _ := d.flag(a); yes {
			s.sender = senderOnly
		}
	}
}

func (d *decoder) code(body *hclsyntax.Body) string {
	a := body.Attributes["code"]
	if a == nil {
		return CodeForbidden
	}
	code, ok := d.text(a)
	if ok && !codePattern.MatchString(code) {
		d.errorf(a.Expr.Range(), "A code is up to 64 lower-case letters, digits and _, and starts with a letter.", "this is not a code")
	}
	return code
}

// window reads how long after sending something holds.
func (d *decoder) window(a *hclsyntax.Attribute) time.Duration {
	window, ok := d.duration(a, MaxWindow)
	if ok && window == 0 {
		d.errorf(a.Expr.Range(), "Write how long after sending it holds.", "%s is 0, which no recall can meet", a.Name)
	}
	return window
}

// permitWindow reads the window of a permit; 0 stands for the one of the policy. "any" is refused wherever a member
// could come by it at an own message: it would lift MaxWindow without saying so.
func (d *decoder) permitWindow(r *rule, body *hclsyntax.Body) time.Duration {
	a := body.Attributes["window"]
	if a == nil {
		return 0
	}
	if text, ok := literalText(d.resolve(a.Expr)); !ok || text != "any" {
		return d.window(a)
	}
	switch {
	case r.scope.sender == senderOnly:
		d.errorf(a.Expr.Range(), "Write a window of at most "+FormatDuration(MaxWindow)+".",
			"window = \"any\" is not for a sender's own messages")
	case r.scope.sender == anybody && (r.scope.roles == 0 || r.scope.roles&roleWords.bit("member") != 0):
		d.errorf(a.Expr.Range(), "Add role = [\"owner\", \"admin\"] or whoever is meant, or sender = false.",
			"window = \"any\" would let members take back their own messages for ever")
	}
	return noEnd
}
