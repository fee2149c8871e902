package engine

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/plugin/internal/clock"
	"github.com/chat-recall/recall/shared"
)

// The lines of the refusal log are bounded, so that nobody fills a disk by asking for what is refused. In a window of a
// minute one actor gets as many lines as a request has targets, and all actors together get 300: at the usual 450 bytes
// a line that is at most 200 MB a day. What is left out is counted in one line when the window ends, and always in
// recall_recalls_total.
const (
	auditWindow     = time.Minute
	maxAuditLines   = 300
	maxLinesOfActor = shared.MaxRecallTargets
)

// auditLog logs refusals. Recalls are not in it: List has them.
type auditLog struct {
	logger hclog.Logger
	clock  clock.Clock
	stop   context.Context // ends when the engine is quiesced
	report sync.WaitGroup  // the goroutine that reports what was left out

	mu      sync.Mutex
	began   time.Duration // of the window
	lines   int           // in the window
	byActor map[[2]string]int
	left    int // refusals that were left out and are not reported yet
}

func newAuditLog(stop context.Context, logger hclog.Logger, c clock.Clock) *auditLog {
	return &auditLog{logger: logger.Named(wire.AuditLogger), clock: c, stop: stop}
}

// refusal is one refused target of a request.
type refusal struct {
	at      int             // the result
	message *shared.Message // nil: not found
	asked   time.Time       // for which the rules judged the request
}

// refused logs refused targets, by the names that an event has. Ext and texts are left out: ext is the host's, and may
// be content.
func (l *auditLog) refused(req *shared.RecallRequest, v *verdicts) {
	for _, x := range v.refusals {
		if !l.admit(req.Tenant, req.Actor.ID) {
			continue
		}
		result, target := &v.results[x.at], &req.Targets[x.at]
		fields := []any{
			"tenant", req.Tenant, "recall_id", req.RecallID, "actor", req.Actor.ID, "role", roleOf(target),
			"message_id", result.MessageID, "status", result.Status,
		}
		conversation := target.Conversation
		if m := x.message; m != nil {
			conversation = m.Conversation
			fields = append(fields, "code", result.Code, "sender", m.Sender, "type", m.Type,
				"sent_at", m.SentAt.Format(time.RFC3339Nano))
		}
		fields = append(fields, "conversation_type", conversation.Type, "conversation", conversation.ID)
		if req.Reason != "" {
			fields = append(fields, "reason", req.Reason)
		}
		if r := result.Rule; r != (shared.Rule{}) {
			fields = append(fields, "rule", r.Name, "file", r.File, "line", r.Line)
		}
		l.logger.Info("refused", append(fields, "policy_digest", v.digest,
			"requested_at", x.asked.Format(time.RFC3339Nano))...)
	}
}

// admit reports whether there may be another line about an actor, and else counts it.
func (l *auditLog) admit(tenant, actor string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.clock.Elapsed(); l.byActor == nil || now-l.began >= auditWindow {
		l.began, l.lines, l.byActor = now, 0, map[[2]string]int{}
	}
	of := [2]string{tenant, actor}
	if l.lines < maxAuditLines && l.byActor[of] < maxLinesOfActor {
		l.lines++
		l.byActor[of]++
		return true
	}
	if l.left++; l.left == 1 {
		end := l.clock.At(l.began + auditWindow)
		l.report.Go(func() { l.count(end) })
	}
	return false
}

// count logs how many refusals were left out, when the window ends or the engine is quiesced.
func (l *auditLog) count(end <-chan time.Time) {
	select {
	case <-end:
	case <-l.stop.Done():
	}
	l.mu.Lock()
	left := l.left
	l.left = 0
	l.mu.Unlock()
	l.logger.Info("refusals were not logged", "count", left)
}

// wait returns once everything that was left out is reported. It is called when the engine is quiesced and no call is
// under way any more.
func (l *auditLog) wait() { l.report.Wait() }
