package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

// Step is a block "step": who carries out a step of a recall. A worker pulls its deliveries, or the sidecar sends them
// to a webhook.
type Step struct {
	Name       string
	Pull       bool
	Webhook    *url.URL      // nil if Pull is set
	Socket     string        // path of the unix socket to send to instead of the host of Webhook; "": none
	SecretFile string        // path of the secrets that sign; "" if Pull is set
	Timeout    time.Duration // of one attempt: how long a worker leases a delivery, or a webhook may take
	AtATime    int           // concurrent attempts, 1 to shared.MaxDeliveries
	After      []string      // steps of the same recall that are settled first
	EachNode   bool          // every node of a cluster carries it out
}

// The defaults of the block "step".
const (
	DefaultPullTimeout    = time.Minute          // the lease of a delivery
	DefaultPullAtATime    = shared.MaxDeliveries // all that the plugin delivers of a step
	DefaultWebhookTimeout = 10 * time.Second
	DefaultWebhookAtATime = 16

	minTimeout = time.Second
	maxTimeout = time.Hour
)

var stepAttributes = []string{
	"pull", "webhook", "socket", "secret_file", "timeout", "at_a_time", "after", "each_node",
}

func (d *decoder) steps(blocks []*hclsyntax.Block) (steps []Step) {
	if len(blocks) > shared.MaxSteps {
		d.Errorf(blocks[shared.MaxSteps].TypeRange, "", "there are %d steps; at most %d", len(blocks), shared.MaxSteps)
		return nil
	}
	first := map[string]hcl.Range{}
	var plan []wire.StepPlan
	var after [][]hclsyntax.Expression // of each step of the plan
	for _, b := range blocks {
		s := d.step(b, first)
		texts, at := d.Texts(b, "after", `For example after = ["notify"]`)
		if slices.Contains(at, nil) {
			texts, at = nil, nil
		}
		s.After = texts
		steps = append(steps, s)
		plan, after = append(plan, wire.StepPlan{Name: s.Name, After: slices.Clone(texts)}), append(after, at)
	}
	d.checkAfter(plan, after)
	return steps
}

// checkAfter reports what the host would refuse in the order of the steps. It removes what it reported and checks
// again, to find the other mistakes.
func (d *decoder) checkAfter(plan []wire.StepPlan, after [][]hclsyntax.Expression) {
	for !d.Full() {
		var step, entry int
		err := wire.CheckAfter(plan, func(i, k int) string {
			step, entry = i, k
			return "step.after"
		})
		var wrong *shared.FieldError
		if !errors.As(err, &wrong) {
			return
		}
		d.Errorf(after[step][entry].Range(), "", "%s[%d] %s", wrong.Field, entry, wrong.Problem)
		plan[step].After = slices.Delete(plan[step].After, entry, entry+1)
		after[step] = slices.Delete(after[step], entry, entry+1)
	}
}

func (d *decoder) step(b *hclsyntax.Block, first map[string]hcl.Range) Step {
	s := Step{Name: d.label(b, `step "notify" { pull = true }`)}
	if s.Name != "" {
		var wrong *shared.FieldError
		if errors.As(shared.ValidateStep("", s.Name), &wrong) {
			d.Errorf(b.LabelRanges[0], "", "%s", wrong.Problem)
		} else {
			d.unique(first, s.Name, b.LabelRanges[0], "a step")
		}
	}
	d.CheckBody(b, fmt.Sprintf("a block %q", stepBlock), stepAttributes)
	s.EachNode = d.Flag(b, "each_node")
	if e := hclfile.Value(b, "each_node"); e != nil && s.Name == shared.StepNotify {
		if is, ok := hclfile.Flag(e); ok && !is {
			d.Invalidf(b, "each_node", "Remove it.", "is false, but every node carries out %s", s.Name)
		}
	}
	s.Pull = d.Flag(b, "pull")
	webhook := hclfile.Value(b, "webhook") != nil
	timeout, atATime := DefaultWebhookTimeout, DefaultWebhookAtATime
	switch {
	case s.Pull:
		timeout, atATime = DefaultPullTimeout, DefaultPullAtATime
		for _, name := range []string{"webhook", "socket", "secret_file"} {
			if hclfile.Value(b, name) != nil {
				d.Invalidf(b, name, "Remove it, or remove pull.", "is set for a step that is pulled")
			}
		}
	case webhook:
		d.webhook(&s, b)
	default:
		d.Errorf(b.TypeRange, "Write pull = true if workers take the deliveries, or name the webhook to send them to.",
			"the block %q needs %q or %q", b.Type, "pull", "webhook")
	}
	s.Timeout = d.duration(b, "timeout", timeout, minTimeout, maxTimeout)
	s.AtATime = d.number(b, "at_a_time", atATime, shared.MaxDeliveries)
	return s
}

func (d *decoder) webhook(s *Step, b *hclsyntax.Block) {
	s.Socket = d.Path(b, "socket")
	if s.Socket != "" {
		d.socket(b, "socket", s.Socket)
	}
	s.SecretFile = d.NeedPath(b, "secret_file", `the file of the secrets that sign: secret_file = "hooks.secret"`)
	if text := d.Text(b, "webhook"); text != "" {
		var advice string
		var err error
		if s.Webhook, advice, err = parseWebhook(text, hclfile.Value(b, "socket") != nil); err != nil {
			d.Invalidf(b, "webhook", advice, "%v", err)
		}
	}
}

// parseWebhook returns the address of a webhook, or what is wrong with it and what to do.
func parseWebhook(text string, socket bool) (u *url.URL, advice string, err error) {
	const example = `For example webhook = "https://chat.example.com/hooks/recall"`
	u, err = url.Parse(text)
	if err != nil {
		return nil, example, errors.New("is not an address")
	}
	host := canonical(u.Hostname())
	ip, _ := netip.ParseAddr(host)
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, example, errors.New("is neither http:// nor https://")
	case u.User != nil:
		return nil, "Remove them. The receiver verifies the signature of the request.",
			errors.New("holds a user or a password")
	case !hclfile.IsHost(u.Hostname()) || !isPort(u):
		return nil, example, errors.New("has no valid host and port")
	case strings.Contains(text, "#"):
		return nil, "Remove it.", errors.New("has a fragment, which is not sent")
	case socket && u.Scheme != "http":
		return nil, "Write http://. Nothing leaves the machine.", errors.New("is https://, and there is a socket")
	case socket:
	case u.Scheme == "http" && !isLoopback(host):
		return nil, "Use https://. Only a webhook on loopback, or on a unix socket, needs no TLS.",
			errors.New("is http:// to a host that is not loopback")
	case ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified():
		return nil, "Name the receiver.", errors.New("has a link-local, multicast or unspecified address")
	}
	return u, "", nil
}

// isPort reports whether the port of an address is valid, if it has one.
func isPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && n > 0
}
