package wire

import (
	"fmt"
	"time"

	"github.com/chat-recall/recall/shared"
)

// The limits of what a plugin answers. A plugin that is broken answers something else than it was asked, or more;
// nothing of such an answer is used.
const (
	maxEntrySteps       = shared.MaxNodes * maxEventSteps // those of every node
	maxEventSteps       = 2 * shared.MaxSteps             // of the host, the standard ones, and those of a host before
	maxLanguages        = 64                              // of Event.Placeholder and RecallResult.Text; as in rules
	maxRuleTraces       = 10_000
	maxRuleConditions   = 10_000
	maxDiagnostics      = 10_000
	maxMetrics          = 10_000
	maxMetricLabels     = 16
	maxMetricBuckets    = 256
	maxAnswerTextBytes  = 64 << 10 // names of rules and files, texts of diagnostics
	maxProtocolVersions = 64
	maxCapabilities     = 64
)

// badAnswer is an error of what the plugin answered. It is no error of the request, whatever err is.
func badAnswer(err error) error {
	return fmt.Errorf("answer of the plugin: %v; nothing of it is used", err)
}

// fail keeps the first error.
func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// text reads a text of at most limit bytes.
func (d *decoder) text(field, s string, limit int) string {
	if len(s) > limit {
		d.fail(shared.Invalidf(field, "is %d bytes long; at most %d", len(s), limit))
		return ""
	}
	return s
}

// time reads a time that may be zero.
func (d *decoder) time(field string, us int64) time.Time {
	t := decodeTime(us)
	if err := validTime(field, t); err != nil {
		d.fail(err)
		return time.Time{}
	}
	return t
}

// atMost checks how many things of a kind there are.
func (d *decoder) atMost(field string, n, limit int) {
	if n > limit {
		d.fail(shared.Invalidf(field, "%d entries; at most %d", n, limit))
	}
}

// answers reads the results of a call about ids, one for each, in their order.
func answers[W, R any](d *decoder, ids func(i int) string, n int, in []W, decode func(W) R, idOf func(*R) string) ([]R,
	error) {
	if len(in) != n {
		return nil, badAnswer(fmt.Errorf("%d results for %d messages", len(in), n))
	}
	out := mapSlice(in, decode)
	for i := range out {
		if got, want := idOf(&out[i]), ids(i); got != want {
			d.fail(shared.Invalidf(fmt.Sprintf("results[%d]", i), "is about message %.80q, want %.80q", got, want))
		}
	}
	if d.err != nil {
		return nil, badAnswer(d.err)
	}
	return out, nil
}

// checkEvent checks an event by the limits of the contract.
func (d *decoder) checkEvent(e *shared.Event) {
	if err := validateEvent(e); err != nil {
		d.fail(under("event.", err))
	}
}

func validateEvent(e *shared.Event) error {
	if err := validID("tenant", e.Tenant); err != nil {
		return err
	}
	if err := validID("recall_id", e.RecallID); err != nil {
		return err
	}
	if err := validText("job_id", e.JobID, shared.MaxIDBytes); err != nil {
		return err
	}
	if err := validID("actor.id", e.Actor.ID); err != nil {
		return err
	}
	if err := validList("actor.labels", e.Actor.Labels, shared.MaxLabels, shared.MaxLabelBytes); err != nil {
		return err
	}
	if err := ValidateMessage(&e.Message); err != nil {
		return under("message.", err)
	}
	if e.Message.Tenant != e.Tenant {
		return shared.Invalidf("message.tenant", "is %q in an event of tenant %q", e.Message.Tenant, e.Tenant)
	}
	if err := validText("ext", e.Ext, shared.MaxExtBytes); err != nil {
		return err
	}
	if err := validText("reason", e.Reason, shared.MaxReasonBytes); err != nil {
		return err
	}
	if err := validTime("recalled_at", e.RecalledAt); err != nil {
		return err
	}
	if err := validAttachments(e.Attachments); err != nil {
		return err
	}
	if err := validText("policy_digest", e.PolicyDigest, shared.MaxIDBytes); err != nil {
		return err
	}
	if err := validTexts("placeholder", e.Placeholder); err != nil {
		return err
	}
	if e.Retention < 0 {
		return shared.Invalidf("retention", "is negative")
	}
	return nil
}
