package lang

import (
	"regexp"
	"time"

	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/rules/internal/policy"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

var (
	namePattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,63}$`)
	codePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
)

// rule decodes one permit or forbid. What it returns is used only if nothing was reported.
func (d *Decoder) rule(b *hclsyntax.Block) *policy.Rule {
	r := &policy.Rule{Forbid: b.Type == forbidBlock.Name, At: b.TypeRange, Ref: refOf(d.name(b, "rule"), b.TypeRange)}
	if len(b.Labels) == 1 {
		r.At = b.LabelRanges[0]
	}
	if r.Ref.Name == policy.DefaultDeny || r.Ref.Name == policy.BuiltInCommandMessages {
		d.Errorf(r.At, "Give the rule another name.", "the name %q is taken by the engine itself", r.Ref.Name)
	}
	d.CheckBody(b.Body, RuleFile.block(b.Type))
	d.scope(&r.Scope, b.Body)
	if a := b.Body.Attributes["when"]; a != nil {
		r.When = d.When(a.Expr.Range(), d.Condition(a.Expr))
	}
	if a := b.Body.Attributes["mode"]; a != nil {
		r.Shadow = d.only(a, "shadow")
	}
	if !r.Forbid && r.Scope.Roles == 0 && !r.When.Names(policy.RoleField, policy.RoleNone) {
		r.Scope.Roles, r.Scope.DefaultRoles = policy.Roles.Without(policy.RoleNone), true
	}
	if r.Forbid {
		r.Code = d.code(b.Body)
	} else {
		d.permit(r, b.Body)
	}
	return r
}

func (d *Decoder) permit(r *policy.Rule, body *hclsyntax.Body) {
	r.Window = d.permitWindow(r, body)
	if a := body.Attributes["reason"]; a != nil {
		r.Reason = d.only(a, "required")
	}
	if a := body.Attributes["limit"]; a != nil {
		r.Limit = d.limitNamed(a)
	}
	for _, b := range body.Blocks {
		if b.Type != onRecallBlock.Name {
			continue // checkBody reported it
		}
		if r.OnRecall != nil {
			d.Errorf(b.TypeRange, "Join them.", "the permit has a second on_recall")
		}
		r.OnRecall = d.onRecall(b.Body)
	}
}

// only reads an attribute that can have one value, or be left out.
func (d *Decoder) only(a *hclsyntax.Attribute, value string) bool {
	text, ok := d.Text(a)
	if ok && text != value {
		d.Errorf(a.Expr.Range(), "Write "+a.Name+" = \""+value+"\", or leave it out.", "%s cannot be %q", a.Name, text)
	}
	return true
}

func (d *Decoder) code(body *hclsyntax.Body) string {
	a := body.Attributes["code"]
	if a == nil {
		return policy.CodeForbidden
	}
	code, ok := d.Text(a)
	switch {
	case ok && !codePattern.MatchString(code):
		d.Errorf(a.Expr.Range(), "A code is up to 64 lower-case letters, digits and _, and starts with a letter.",
			"this is not a code")
	case code == ExpectPermit || code == ExpectDeny:
		d.Errorf(a.Expr.Range(), "Say why it is refused, as in \"legal_hold\".",
			"%q is not a code: tests expect it of every permit or refusal", code)
	}
	return code
}

// window reads how long after sending something holds.
func (d *Decoder) window(a *hclsyntax.Attribute) time.Duration {
	window, ok := d.duration(a, policy.MaxWindow)
	if ok && window == 0 {
		d.Errorf(a.Expr.Range(), "Write how long after sending it holds.", "%s is 0, which no recall can meet", a.Name)
	}
	return window
}

// permitWindow reads the window of a permit; 0 stands for the one of the policy. "any" is refused wherever a member
// could come by it at an own message: it would lift MaxWindow without saying so.
func (d *Decoder) permitWindow(r *policy.Rule, body *hclsyntax.Body) time.Duration {
	a := body.Attributes["window"]
	if a == nil {
		return 0
	}
	if text, ok := hclfile.Text(d.resolve(a.Expr)); !ok || text != "any" {
		return d.window(a)
	}
	switch {
	case r.Scope.Sender == policy.SenderOnly:
		d.Errorf(a.Expr.Range(), "Write a window of at most "+policy.FormatDuration(policy.MaxWindow)+".",
			"window = \"any\" is not for a sender's own messages")
	case r.Scope.Sender == policy.SenderAnybody && (r.Scope.Roles == 0 || r.Scope.Roles&ordinaryRoles != 0):
		d.Errorf(a.Expr.Range(), "Add role = [\"owner\", \"admin\"] or the roles that are meant, or sender = false.",
			"window = \"any\" would let senders with the role member or none recall their own messages forever")
	}
	return policy.NoEnd
}

// ordinaryRoles are the roles for which [MaxWindow] holds.
var ordinaryRoles = policy.Roles.Bit("member") | policy.Roles.Bit(policy.RoleNone)

// What a test expects of every permit or refusal; a forbid cannot have them for a code.
const (
	ExpectPermit = "permit"
	ExpectDeny   = "deny"
)
