package rules

import (
	"regexp"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/internal/hclfile"
)

var (
	namePattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,63}$`)
	codePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
)

// rule decodes one permit or forbid. What it returns is used only if nothing was reported.
func (d *decoder) rule(b *hclsyntax.Block) *rule {
	r := &rule{forbid: b.Type == forbidBlock.name, at: b.TypeRange, ref: refOf(d.name(b, "rule"), b.TypeRange)}
	if len(b.Labels) == 1 {
		r.at = b.LabelRanges[0]
	}
	if r.ref.Name == DefaultDeny || r.ref.Name == builtInCommandMessages {
		d.Errorf(r.at, "Give the rule another name.", "the name %q is taken by the engine itself", r.ref.Name)
	}
	d.checkBody(b.Body, ruleFile.block(b.Type))
	d.scope(&r.scope, b.Body)
	if a := b.Body.Attributes["when"]; a != nil {
		r.when = d.when(a.Expr.Range(), d.condition(a.Expr))
	}
	if a := b.Body.Attributes["mode"]; a != nil {
		r.shadow = d.only(a, "shadow")
	}
	if !r.forbid && r.scope.roles == 0 && !r.when.names(roleField, roleNone) {
		r.scope.roles, r.scope.defaultRoles = roleWords.without(roleNone), true
	}
	if r.forbid {
		r.code = d.code(b.Body)
	} else {
		d.permit(r, b.Body)
	}
	return r
}

func (d *decoder) permit(r *rule, body *hclsyntax.Body) {
	r.window = d.permitWindow(r, body)
	if a := body.Attributes["reason"]; a != nil {
		r.reason = d.only(a, "required")
	}
	if a := body.Attributes["limit"]; a != nil {
		r.limit = d.limitNamed(a)
	}
	for _, b := range body.Blocks {
		if b.Type != onRecallBlock.name {
			continue // checkBody reported it
		}
		if r.onRecall != nil {
			d.Errorf(b.TypeRange, "Join them.", "the permit has a second on_recall")
		}
		r.onRecall = d.onRecall(b.Body)
	}
}

// only reads an attribute that can have one value, or be left out.
func (d *decoder) only(a *hclsyntax.Attribute, value string) bool {
	text, ok := d.text(a)
	if ok && text != value {
		d.Errorf(a.Expr.Range(), "Write "+a.Name+" = \""+value+"\", or leave it out.", "%s cannot be %q", a.Name, text)
	}
	return true
}

func (d *decoder) code(body *hclsyntax.Body) string {
	a := body.Attributes["code"]
	if a == nil {
		return CodeForbidden
	}
	code, ok := d.text(a)
	switch {
	case ok && !codePattern.MatchString(code):
		d.Errorf(a.Expr.Range(), "A code is up to 64 lower-case letters, digits and _, and starts with a letter.",
			"this is not a code")
	case code == expectPermit || code == expectDeny:
		d.Errorf(a.Expr.Range(), "Say why it is refused, as in \"legal_hold\".",
			"%q is not a code: tests expect it of every permit or refusal", code)
	}
	return code
}

// window reads how long after sending something holds.
func (d *decoder) window(a *hclsyntax.Attribute) time.Duration {
	window, ok := d.duration(a, MaxWindow)
	if ok && window == 0 {
		d.Errorf(a.Expr.Range(), "Write how long after sending it holds.", "%s is 0, which no recall can meet", a.Name)
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
	if text, ok := hclfile.Text(d.resolve(a.Expr)); !ok || text != "any" {
		return d.window(a)
	}
	switch {
	case r.scope.sender == senderOnly:
		d.Errorf(a.Expr.Range(), "Write a window of at most "+FormatDuration(MaxWindow)+".",
			"window = \"any\" is not for a sender's own messages")
	case r.scope.sender == anybody && (r.scope.roles == 0 || r.scope.roles&ordinaryRoles != 0):
		d.Errorf(a.Expr.Range(), "Add role = [\"owner\", \"admin\"] or the roles that are meant, or sender = false.",
			"window = \"any\" would let senders with the role member or none recall their own messages forever")
	}
	return noEnd
}

// ordinaryRoles are the roles for which [MaxWindow] holds.
var ordinaryRoles = roleWords.bit("member") | roleWords.bit(roleNone)

// What a test expects of every permit or refusal; a forbid cannot have them for a code.
const (
	expectPermit = "permit"
	expectDeny   = "deny"
)
