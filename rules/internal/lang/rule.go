package lang

import (
	"regexp"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/rules/internal/policy"
)

var (
	namePattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,63}$`)
	codePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
)

// rule decodes one permit or forbid. The result is valid only if no error was reported.
func (d *Decoder) rule(b *hclsyntax.Block) *policy.Rule {
	r := &policy.Rule{Forbid: b.Type == forbidBlock.Name, At: b.TypeRange, Ref: refOf(d.name(b, "rule"), b.TypeRange)}
	if len(b.Labels) == 1 {
		r.At = b.LabelRanges[0]
	}
	if r.Ref.Name == policy.DefaultDeny || r.Ref.Name == policy.BuiltInCommandMessages {
		d.Errorf(r.At, "Give the rule another name.", "the name %q is reserved", r.Ref.Name)
	}
	d.CheckBody(b.Body, RuleFile.block(b.Type))
	d.scope(&r.Scope, b.Body)
	if a := b.Body.Attributes["when"]; a != nil {
		r.When = d.When(a.Expr.Range(), d.Condition(a.Expr))
	}
	if a := b.Body.Attributes["mode"]; a != nil {
		r.Shadow = d.only(a, "shadow")
	}
	if a := b.Body.Attributes["text"]; a != nil {
		r.Texts = d.texts(a, "Ask a moderator to recall this message.", d.refusalText)
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
			d.Errorf(b.TypeRange, "Merge them.", "the permit has two on_recall blocks")
		}
		r.OnRecall = d.onRecall(b.Body)
	}
}

// only decodes an attribute that has one possible value, or is left out.
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
		d.Errorf(a.Expr.Range(), "A code has at most 64 lower-case letters, digits and _, and starts with a letter.",
			"this is not a valid code")
	case code == ExpectPermit || code == ExpectDeny:
		d.Errorf(a.Expr.Range(), "Name the reason of the refusal, as in \"legal_hold\".",
			"%q cannot be a code: in tests it stands for every permission or refusal", code)
	}
	return code
}

// window decodes a window, which is not 0 and at most [policy.MaxWindow], unless the policy says otherwise.
func (d *Decoder) window(a *hclsyntax.Attribute) time.Duration {
	most := policy.MaxWindow
	if d.anyOwn {
		most = policy.MaxDuration
	}
	window, ok := d.duration(a, most)
	if ok && window == 0 {
		d.Errorf(a.Expr.Range(), "Write how long after sending a recall is allowed.", "%s is 0, which allows no recall",
			a.Name)
	}
	return window
}

// permitWindow decodes the window of a permit; 0 stands for that of the policy. It refuses "any" if that could apply to
// an own message of somebody with the role member or none: it would bypass [policy.MaxWindow].
func (d *Decoder) permitWindow(r *policy.Rule, body *hclsyntax.Body) time.Duration {
	a := body.Attributes["window"]
	if a == nil {
		return 0
	}
	if text, ok := hclfile.Text(d.resolve(a.Expr)); !ok || text != "any" {
		return d.window(a)
	}
	const orAny = " Or let the policy say own_window_limit = \"any\"."
	switch {
	case d.anyOwn:
	case r.Scope.Sender == policy.SenderOnly:
		d.Errorf(a.Expr.Range(), "Write a window of at most "+policy.FormatDuration(policy.MaxWindow)+"."+orAny,
			"window = \"any\" is not allowed for own messages")
	case r.Scope.Sender == policy.SenderAnybody && (r.Scope.Roles == 0 || r.Scope.Roles&ordinaryRoles != 0):
		d.Errorf(a.Expr.Range(),
			"Add sender = false, or a role without member and none, such as role = [\"owner\", \"admin\"]."+orAny,
			"window = \"any\" would let senders with the role member or none recall their own messages forever")
	}
	return policy.NoEnd
}

// ordinaryRoles are the roles to which [policy.MaxWindow] applies.
var ordinaryRoles = policy.Roles.Bit("member") | policy.Roles.Bit(policy.RoleNone)

// In tests these stand for every permission and every refusal. No code has such a name.
const (
	ExpectPermit = "permit"
	ExpectDeny   = "deny"
)
