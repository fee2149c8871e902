package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

// logBuffer collects log lines of JSON.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// audit returns the lines of the refusal log, without time and level.
func (b *logBuffer) audit(t *testing.T) (lines []map[string]any) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for text := range strings.Lines(b.text.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if line["@module"] != "plugin.audit" {
			continue
		}
		if line["@level"] != "info" {
			t.Errorf("%s", text)
		}
		delete(line, "@timestamp")
		delete(line, "@level")
		delete(line, "@module")
		lines = append(lines, line)
	}
	return lines
}

func newAudited(t *testing.T, ruleText string) (*rig, *logBuffer) {
	t.Helper()
	log := &logBuffer{}
	r := newLogging(t, ruleText, hclog.New(&hclog.LoggerOptions{Name: "plugin", Output: log, JSONFormat: true}))
	r.activate()
	return r, log
}

func TestAudit_Fields(t *testing.T) {
	r, log := newAudited(t, `
		permit "own" {
			sender = true
			window = "2m"
			text   = { en = "Too late." }
		}`)
	sent := r.clock.Now()
	r.index(r.message("m1"), r.message("m2"), r.message("m3"))
	recall := func(req shared.RecallRequest) {
		t.Helper()
		req.Ext, req.Reason = "the content of the host", "a typo"
		r.recall(req)
	}
	recall(request("r1", "m1"))                                          // recalled: not in this log
	recall(as("bob", shared.RoleAdmin, request("r1", "m2")))             // forbidden
	recall(request("r2", "m1", "nothing"))                               // already recalled, not found
	r.clock.Advance(3 * time.Minute)                                     //
	recall(request("r3", "m3"))                                          // too late
	if _, err := r.Check(t.Context(), request("r4", "m3")); err != nil { // asked, and not tried
		t.Fatal(err)
	}
	digest := r.followed().Policy().Digest()
	base := func(recallID, actor, role, message string, at time.Time) map[string]any {
		return map[string]any{
			"@message": "refused", "tenant": "acme", "recall_id": recallID, "actor": actor, "role": role,
			"message_id": message, "conversation": "g", "conversation_type": "group", "reason": "a typo",
			"policy_digest": digest, "requested_at": at.Format(time.RFC3339Nano),
		}
	}
	denied := func(line map[string]any, code, rule string, at float64) map[string]any {
		line["status"], line["code"], line["sender"], line["type"] = "denied", code, "ann", "text"
		line["sent_at"] = sent.Format(time.RFC3339Nano)
		line["rule"], line["line"] = rule, at
		return line
	}
	missing := base("r2", "ann", "member", "nothing", sent)
	missing["status"] = "not_found"
	want := []map[string]any{
		denied(base("r1", "bob", "admin", "m2", sent), "forbidden", "default_deny", 0),
		missing,
		denied(base("r3", "ann", "member", "m3", sent.Add(3*time.Minute)), "window_expired", "own", 2),
	}
	got := log.audit(t)
	for i := range got {
		if file, ok := got[i]["file"].(string); ok && (file == "" || strings.HasSuffix(file, "rules.hcl")) {
			delete(got[i], "file")
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
}

// Whose recall id it is shows only at the commit.
func TestAudit_RecallIDUsed(t *testing.T) {
	r, log := newAudited(t, "")
	r.index(r.message("m1"), r.message("m2"))
	r.recall(request("r1", "m1"))
	r.recall(as("bob", shared.RoleOwner, request("r1", "m2")))
	got := log.audit(t)
	if len(got) != 1 || got[0]["code"] != string(shared.CodeRecallIDUsed) || got[0]["message_id"] != "m2" ||
		got[0]["sender"] != "ann" || got[0]["rule"] != nil {
		t.Errorf("%v", got)
	}
}

func TestAudit_AtomicRequest(t *testing.T) {
	r, log := newAudited(t, "")
	r.index(r.message("m1"))
	req := request("r1", "m1", "nothing")
	req.Atomic = true
	r.recall(req)
	if got := log.audit(t); len(got) != 1 || got[0]["message_id"] != "nothing" {
		t.Errorf("%v", got)
	}
}

func TestAudit_Bounded(t *testing.T) {
	r, log := newAudited(t, "")
	var ids []string
	for i := range shared.MaxRecallTargets {
		ids = append(ids, fmt.Sprint("m", i))
	}
	flood := func(actor string) { r.recall(as(actor, "", request("r-"+actor, ids...))) }
	want := func(what string, lines, counted int) {
		t.Helper()
		got := log.audit(t)
		refused, count := 0, 0
		for _, line := range got {
			switch line["@message"] {
			case "refused":
				refused++
			case "refusals were not logged":
				count += int(line["count"].(float64))
			}
		}
		if refused != lines || count != counted {
			t.Errorf("%s: %d lines and a count of %d, want %d and %d", what, refused, count, lines, counted)
		}
	}
	const n, most = shared.MaxRecallTargets, maxAuditLines
	flood("bob")
	want("a whole request", n, 0)
	flood("bob")
	flood("bob")
	want("one actor", n, 0)
	flood("cid")
	want("another actor", 2*n, 0)
	flood("dan")
	flood("eve")
	want("many actors", most, 0)
	r.clock.WaitArmed(auditWindow)
	r.clock.Advance(auditWindow)
	r.audit.wait()
	want("the window has ended", most, 3*n)
	flood("bob")
	want("the next window", most+n, 3*n)
	flood("bob")
	if err := r.Quiesce(context.Background()); err != nil {
		t.Fatal(err)
	}
	want("quiesced", most+n, 4*n)
}
