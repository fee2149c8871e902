package wire

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// broken is a plugin with prepared answers.
type broken struct {
	recallv1.UnimplementedRecallServiceServer
	recallv1.UnimplementedLifecycleServiceServer
	index       *recallv1.IndexResponse
	recall      *recallv1.RecallResponse
	status      *recallv1.StatusResponse
	since       *recallv1.EventPage
	ledger      *recallv1.LedgerPage
	describe    *recallv1.DescribeResponse
	health      *recallv1.HealthResponse
	diagnostics *recallv1.DiagnosticsResponse
	metrics     *recallv1.MetricsResponse
	explain     *recallv1.ExplainResponse
	job         *recallv1.Job
	jobs        *recallv1.JobPage
	preview     *recallv1.JobPreview
}

func (b *broken) Explain(context.Context, *recallv1.RecallRequest) (*recallv1.ExplainResponse, error) {
	return b.explain, nil
}

func (b *broken) Index(context.Context, *recallv1.IndexRequest) (*recallv1.IndexResponse, error) {
	return b.index, nil
}
func (b *broken) Recall(context.Context, *recallv1.RecallRequest) (*recallv1.RecallResponse, error) {
	return b.recall, nil
}
func (b *broken) Check(context.Context, *recallv1.RecallRequest) (*recallv1.RecallResponse, error) {
	return b.recall, nil
}
func (b *broken) Status(context.Context, *recallv1.StatusRequest) (*recallv1.StatusResponse, error) {
	return b.status, nil
}
func (b *broken) Since(context.Context, *recallv1.SinceRequest) (*recallv1.EventPage, error) {
	return b.since, nil
}
func (b *broken) Forget(context.Context, *recallv1.ForgetRequest) (*recallv1.ForgetResponse, error) {
	return &recallv1.ForgetResponse{Live: -1}, nil
}

func (b *broken) List(context.Context, *recallv1.ListRequest) (*recallv1.EventPage, error) {
	return b.since, nil
}
func (b *broken) Ledger(context.Context, *recallv1.LedgerRequest) (*recallv1.LedgerPage, error) {
	return b.ledger, nil
}
func (b *broken) Describe(context.Context, *recallv1.DescribeRequest) (*recallv1.DescribeResponse, error) {
	return b.describe, nil
}
func (b *broken) Prepare(context.Context, *recallv1.PrepareRequest) (*recallv1.DiagnosticsResponse, error) {
	return b.diagnostics, nil
}
func (b *broken) Reload(context.Context, *recallv1.ReloadRequest) (*recallv1.DiagnosticsResponse, error) {
	return b.diagnostics, nil
}
func (b *broken) Health(context.Context, *recallv1.HealthRequest) (*recallv1.HealthResponse, error) {
	return b.health, nil
}
func (b *broken) Metrics(context.Context, *recallv1.MetricsRequest) (*recallv1.MetricsResponse, error) {
	return b.metrics, nil
}

// changed is fullEvent on the wire with one thing wrong.
func changed(change func(*recallv1.Event)) *recallv1.Event {
	e := encodeEvent(fullEvent)
	change(e)
	return e
}

func TestClient_RefusesAnswersThatWereNotAskedFor(t *testing.T) {
	impl := &broken{}
	c := NewClient(t.Context(), dialServer(t, func(s *grpc.Server) {
		recallv1.RegisterRecallServiceServer(s, impl)
		recallv1.RegisterLifecycleServiceServer(s, impl)
	}))
	second := fullMessage
	second.ID = "m/2"
	both := fullRequest
	both.Targets = []shared.Target{fullTargets()[0], {MessageID: "m/2", Conversation: fullMessage.Conversation}}
	indexed := func(ids ...string) *recallv1.IndexResponse {
		return &recallv1.IndexResponse{Results: mapSlice(ids, func(id string) *recallv1.IndexResult {
			return &recallv1.IndexResult{MessageId: id, Status: recallv1.IndexStatus_INDEX_STATUS_INDEXED}
		})}
	}
	compact := func(statuses ...byte) *recallv1.IndexResponse { return &recallv1.IndexResponse{Statuses: statuses} }
	recalled := func(change func(*recallv1.RecallResult), ids ...string) *recallv1.RecallResponse {
		return &recallv1.RecallResponse{Results: mapSlice(ids, func(id string) *recallv1.RecallResult {
			r := &recallv1.RecallResult{MessageId: id, Status: recallv1.RecallStatus_RECALL_STATUS_RECALLED}
			change(r)
			return r
		})}
	}
	as := func(*recallv1.RecallResult) {}
	states := func(ids ...string) *recallv1.StatusResponse {
		return &recallv1.StatusResponse{Statuses: mapSlice(ids, func(id string) *recallv1.MessageStatus {
			return &recallv1.MessageStatus{MessageId: id, State: recallv1.MessageState_MESSAGE_STATE_LIVE}
		})}
	}
	long := strings.Repeat("x", maxAnswerTextBytes+1)
	index := func() error { _, err := c.Index(t.Context(), []shared.Message{fullMessage, second}); return err }
	recall := func() error { _, err := c.Recall(t.Context(), both); return err }
	check := func() error { _, err := c.Check(t.Context(), both); return err }
	explain := func() error { _, err := c.Explain(t.Context(), both); return err }
	ofStatus := func() error { _, err := c.Status(t.Context(), "acme", []string{"m/1", "m/2"}); return err }
	since := func() error { _, err := c.Since(t.Context(), fullSince); return err }
	list := func() error { _, err := c.List(t.Context(), fullList); return err }
	first := func() error {
		_, err := c.Ledger(t.Context(), shared.LedgerRequest{Tenant: "acme", RecallID: "r"})
		return err
	}
	ledger := func() error { _, err := c.Ledger(t.Context(), fullLedger); return err }
	page := func(change func(*recallv1.Event)) func() {
		return func() { impl.since = &recallv1.EventPage{Events: []*recallv1.Event{changed(change)}} }
	}
	entries := func(change func(*recallv1.LedgerEntry)) func() {
		return func() {
			e := encodeLedgerEntry(fullEntry)
			change(e)
			impl.ledger = &recallv1.LedgerPage{Entries: []*recallv1.LedgerEntry{e}}
		}
	}
	describe := func() error { _, err := c.Describe(t.Context()); return err }
	health := func() error { _, err := c.Health(t.Context()); return err }
	reload := func() error { _, err := c.Reload(t.Context()); return err }
	metrics := func() error { _, err := c.Metrics(t.Context()); return err }
	for name, tc := range map[string]struct {
		answer func()
		call   func() error
		words  string
	}{
		"index: another order": {func() { impl.index = indexed("m/2", "m/1") }, index,
			`results[0]: is about message "m/2", want "m/1"`},
		"index: another id": {func() { impl.index = indexed("m/1", "m/3") }, index,
			`results[1]: is about message "m/3", want "m/2"`},
		"index: too few": {func() { impl.index = indexed("m/1") }, index, "1 results for 2 messages"},
		"index: too many": {func() { impl.index = indexed("m/1", "m/2", "m/3") }, index,
			"3 results for 2 messages"},
		"index: too few statuses":  {func() { impl.index = compact(1) }, index, "1 statuses for 2 messages"},
		"index: too many statuses": {func() { impl.index = compact(1, 1, 1) }, index, "3 statuses for 2 messages"},
		"index: status 0":          {func() { impl.index = compact(1, 0) }, index, "statuses: is not set"},
		"index: an unknown status": {func() { impl.index = compact(200, 1) }, index, "statuses: value 200"},
		"recall: another order":    {func() { impl.recall = recalled(as, "m/2", "m/1") }, recall, "results[0]"},
		"recall: too many": {func() { impl.recall = recalled(as, "m/1", "m/2", "m/2") }, recall,
			"3 results for 2 messages"},
		"check: another order":  {func() { impl.recall = recalled(as, "m/2", "m/1") }, check, "results[0]"},
		"status: another order": {func() { impl.status = states("m/2", "m/1") }, ofStatus, "results[0]"},
		"status: too few":       {func() { impl.status = states("m/1") }, ofStatus, "1 results for 2 messages"},
		"since: more than the limit": {func() {
			impl.since = &recallv1.EventPage{Events: make([]*recallv1.Event,
				fullSince.Limit+1)}
		}, since, "events: 10 entries; at most 9"},
		"since: another tenant": {page(func(e *recallv1.Event) { e.Tenant, e.Message.Tenant = "other", "other" }), since,
			`events[0].tenant: is "other"`},
		"forget: a negative count": {func() {}, func() error {
			_, err := c.Forget(t.Context(), fullForget)
			return err
		}, "live: is -1"},
		"list: more than the limit": {func() {
			impl.since = &recallv1.EventPage{Events: make([]*recallv1.Event, fullList.Limit+1)}
		}, list, "events: 10 entries; at most 9"},
		"list: another tenant": {page(func(e *recallv1.Event) { e.Tenant, e.Message.Tenant = "other", "other" }), list,
			`events[0].tenant: is "other"`},
		"list: the same page again": {func() {
			impl.since = &recallv1.EventPage{Next: fullList.After, More: true}
		}, list, "next: is the cursor of the page itself"},
		"ledger: another recall": {entries(func(e *recallv1.LedgerEntry) { e.Event.RecallId = "r2" }), ledger,
			`are of recall "r2"`},
		"ledger: another tenant": {entries(func(e *recallv1.LedgerEntry) {
			e.Event.Tenant, e.Event.Message.Tenant = "other", "other"
		}), ledger, `of tenant "other"`},
		"ledger: more than the limit": {func() {
			impl.ledger = &recallv1.LedgerPage{Entries: make([]*recallv1.LedgerEntry, fullLedger.Limit+1)}
		}, ledger, "entries: 10 entries; at most 9"},
		"ledger: the same page again": {func() {
			impl.ledger = &recallv1.LedgerPage{Next: fullLedger.After, More: true}
		}, ledger, "next: is the cursor of the page itself"},
		"since: the same page again": {func() {
			impl.since = &recallv1.EventPage{Next: fullSince.After, More: true}
		}, since, "next: is the cursor of the page itself"},
		"ledger: a reset without a cursor": {func() { impl.ledger = &recallv1.LedgerPage{Reset_: true} }, first,
			"reset: is set, and the request had no cursor"},
		"since: a long cursor": {func() { impl.since = &recallv1.EventPage{Next: long} }, since, "next: is 65537 bytes long"},
		"ledger: steps": {entries(func(e *recallv1.LedgerEntry) { e.Steps = make([]*recallv1.StepRecord, maxEntrySteps+1) }),
			ledger, "steps: 4097 entries"},

		"recall: a long code": {func() {
			impl.recall = recalled(func(r *recallv1.RecallResult) { r.Code = long }, "m/1",
				"m/2")
		}, recall, "results.code: is 65537 bytes long"},
		"recall: a long rule": {func() {
			impl.recall = recalled(func(r *recallv1.RecallResult) { r.Rule = &recallv1.Rule{Name: long} }, "m/1", "m/2")
		}, recall, "rule.name"},
		"recall: a long recall id": {func() {
			impl.recall = recalled(func(r *recallv1.RecallResult) { r.RecallId = long },
				"m/1", "m/2")
		}, recall, "results.recall_id"},
		"recall: a long actor": {func() {
			impl.recall = recalled(func(r *recallv1.RecallResult) { r.RecalledBy = long }, "m/1", "m/2")
		}, recall, "results.recalled_by"},
		"recall: a time that JSON cannot write": {func() {
			impl.recall = recalled(func(r *recallv1.RecallResult) { r.Until = math.MaxInt64 }, "m/1", "m/2")
		}, recall, "results.until"},
		"event: a long id":         {page(func(e *recallv1.Event) { e.RecallId = long }), since, "event.recall_id"},
		"event: a long message id": {page(func(e *recallv1.Event) { e.Message.Id = long }), since, "event.message.id"},
		"event: a long ext":        {page(func(e *recallv1.Event) { e.Ext = long }), since, "event.ext"},
		"event: attachments": {page(func(e *recallv1.Event) { e.Attachments = make([]*recallv1.Attachment, 101) }), since,
			"event.attachments: 101 entries"},
		"explain: many conditions": {func() {
			impl.explain = &recallv1.ExplainResponse{Explanations: []*recallv1.Explanation{{MessageId: "m/1",
				Rules: []*recallv1.RuleTrace{{Conditions: make([]*recallv1.RuleCondition, maxRuleConditions+1)}}}, {}}}
		}, explain, "explanations.rules.conditions: 10001 entries"},
		"recall: many texts": {func() {
			impl.recall = recalled(func(r *recallv1.RecallResult) {
				r.Text = map[string]string{}
				for i := range maxLanguages + 1 {
					r.Text[fmt.Sprint(i)] = "x"
				}
			}, "m/1", "m/2")
		}, recall, "results.text: 65 entries"},
		"event: a time": {page(func(e *recallv1.Event) { e.RecalledAt = math.MinInt64 }), since,
			"event.recalled_at"},
		"event: a negative retention": {page(func(e *recallv1.Event) { e.Retention = -1 }), since, "event.retention"},
		"event: the most negative retention": {page(func(e *recallv1.Event) { e.Retention = math.MinInt64 }), since,
			"event.retention"},
		"event: a long placeholder": {page(func(e *recallv1.Event) { e.Placeholder = map[string]string{"en": long} }), since,
			"event.placeholder"},
		"describe: a long version": {func() { impl.describe = &recallv1.DescribeResponse{Version: long} }, describe,
			"version: is 65537 bytes"},
		"describe: many capabilities": {func() {
			impl.describe = &recallv1.DescribeResponse{Capabilities: make([]string, maxCapabilities+1)}
		}, describe, "capabilities: 65 entries"},
		"describe: a long capability": {func() {
			impl.describe = &recallv1.DescribeResponse{Capabilities: []string{long}}
		}, describe, "capabilities: is 65537 bytes"},
		"health: a long digest": {func() {
			impl.health = &recallv1.HealthResponse{State: 1, Rules: &recallv1.RulesState{Digest: long}}
		}, health, "rules.digest: is 65537 bytes"},
		"health: a long index id": {func() {
			impl.health = &recallv1.HealthResponse{State: 1, Index: &recallv1.IndexIdentity{Id: long}}
		}, health, "index.id: is 65537 bytes"},
		"health: a long epoch": {func() {
			impl.health = &recallv1.HealthResponse{State: 1, Index: &recallv1.IndexIdentity{Epoch: long}}
		}, health, "index.epoch: is 65537 bytes"},
		"health: many paths": {func() {
			impl.health = &recallv1.HealthResponse{State: 1,
				Rules: &recallv1.RulesState{Paths: make([]string, maxDiagnostics+1)}}
		}, health, "rules.paths: 10001 entries"},
		"reload: many diagnostics": {func() {
			impl.diagnostics = &recallv1.DiagnosticsResponse{Diagnostics: make([]*recallv1.Diagnostic, maxDiagnostics+1)}
		}, reload, "diagnostics: 10001 entries"},
		"metrics: many": {func() {
			impl.metrics = &recallv1.MetricsResponse{Metrics: make([]*recallv1.Metric,
				maxMetrics+1)}
		}, metrics, "metrics: 10001 entries"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.answer()
			err := tc.call()
			if err == nil || !strings.HasPrefix(err.Error(), "answer of the plugin: ") ||
				!strings.Contains(err.Error(), tc.words) {
				t.Errorf("got %v, want %q", err, tc.words)
			}
		})
	}
}

func TestClient_ClipsLongTextsForPeople(t *testing.T) {
	long := strings.Repeat("x", 2*maxAnswerTextBytes)
	impl := &broken{
		health:      &recallv1.HealthResponse{State: recallv1.PluginState_PLUGIN_STATE_ACTIVE, Reason: long},
		diagnostics: &recallv1.DiagnosticsResponse{Diagnostics: []*recallv1.Diagnostic{{Severity: 1, Detail: long}}},
	}
	c := NewClient(t.Context(), dialServer(t, func(s *grpc.Server) { recallv1.RegisterLifecycleServiceServer(s, impl) }))
	if h, err := c.Health(t.Context()); err != nil || len(h.Reason) != maxAnswerTextBytes {
		t.Errorf("a reason of %d bytes, %v", len(h.Reason), err)
	}
	if ds, err := c.Prepare(t.Context(), "/f"); err != nil || len(ds[0].Detail) != maxAnswerTextBytes {
		t.Errorf("%d diagnostics, %v", len(ds), err)
	}
}

func TestClient_AnswersAtTheLimits(t *testing.T) {
	text := strings.Repeat("x", maxAnswerTextBytes)
	event := changed(func(e *recallv1.Event) {
		e.Retention, e.RecalledAt, e.Rule = 0, maxTime.UnixMicro(), &recallv1.Rule{Name: text, File: text}
		e.Message.SentAt = minTime.UnixMicro()
		e.PolicyDigest = strings.Repeat("x", shared.MaxIDBytes)
	})
	entry := encodeLedgerEntry(fullEntry)
	entry.Event.Tenant, entry.Event.RecallId = fullLedger.Tenant, fullLedger.RecallID
	entry.Steps = slices.Repeat([]*recallv1.StepRecord{{Step: strings.Repeat("s", shared.MaxStepBytes)}}, maxEntrySteps-1)
	entry.Steps = append(entry.Steps, &recallv1.StepRecord{Step: "s", Error: text})
	cursor := strings.Repeat("c", maxCursorBytes)
	id := strings.Repeat("i", shared.MaxIDBytes)
	labels := map[string]string{"label": text[len("label"):]}
	for i := range maxMetricLabels - 1 {
		labels[fmt.Sprint(i)] = ""
	}
	diagnostics := slices.Repeat([]*recallv1.Diagnostic{{Severity: 1}}, maxDiagnostics)
	impl := &broken{
		since: &recallv1.EventPage{
			Events: slices.Repeat([]*recallv1.Event{event}, fullSince.Limit), Next: cursor, More: true, Reset_: true,
		},
		ledger: &recallv1.LedgerPage{
			Entries: slices.Repeat([]*recallv1.LedgerEntry{entry}, fullLedger.Limit), Next: fullLedger.After, Reset_: true,
		},
		describe: &recallv1.DescribeResponse{
			Name: id, ProtocolVersions: make([]int32, maxProtocolVersions),
			Capabilities: slices.Repeat([]string{id}, maxCapabilities),
		},
		health: &recallv1.HealthResponse{
			State: recallv1.PluginState_PLUGIN_STATE_ACTIVE, Reason: text,
			Rules: &recallv1.RulesState{Digest: id, Paths: make([]string, maxDiagnostics), Warnings: diagnostics},
		},
		diagnostics: &recallv1.DiagnosticsResponse{Diagnostics: diagnostics},
		metrics: &recallv1.MetricsResponse{Metrics: slices.Repeat([]*recallv1.Metric{{
			Kind: recallv1.MetricKind_METRIC_KIND_GAUGE, Name: "m",
		}}, maxMetrics-1)},
		explain: &recallv1.ExplainResponse{Explanations: []*recallv1.Explanation{{
			MessageId: "m/1", Result: encodeRecallResult(fullResult), Rules: append(
				make([]*recallv1.RuleTrace, maxRuleTraces-1),
				&recallv1.RuleTrace{Conditions: make([]*recallv1.RuleCondition, maxRuleConditions)}),
		}}},
	}
	impl.metrics.Metrics = append(impl.metrics.Metrics, &recallv1.Metric{
		Kind: recallv1.MetricKind_METRIC_KIND_HISTOGRAM, Name: text, Labels: labels,
		Buckets: make([]*recallv1.Bucket, maxMetricBuckets),
	})
	c := NewClient(t.Context(), dialServer(t, func(s *grpc.Server) {
		recallv1.RegisterRecallServiceServer(s, impl)
		recallv1.RegisterLifecycleServiceServer(s, impl)
	}))
	for name, call := range map[string]func() (int, error){
		"since": func() (int, error) {
			page, err := c.Since(t.Context(), fullSince)
			return len(page.Events) - fullSince.Limit, err
		},
		"ledger": func() (int, error) {
			page, err := c.Ledger(t.Context(), fullLedger)
			return len(page.Entries) - fullLedger.Limit, err
		},
		"describe": func() (int, error) {
			d, err := c.Describe(t.Context())
			return len(d.Capabilities) - maxCapabilities, err
		},
		"health": func() (int, error) {
			h, err := c.Health(t.Context())
			return len(h.Reason) - maxAnswerTextBytes, err
		},
		"reload": func() (int, error) {
			ds, err := c.Reload(t.Context())
			return len(ds) - maxDiagnostics, err
		},
		"metrics": func() (int, error) {
			metrics, err := c.Metrics(t.Context())
			return len(metrics) - maxMetrics, err
		},
		"explain": func() (int, error) {
			all, err := c.Explain(t.Context(), fullRequest)
			if err != nil {
				return 0, err
			}
			return len(all[0].Rules) - maxRuleTraces, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			if missing, err := call(); err != nil || missing != 0 {
				t.Errorf("%d entries, %.300v", missing, err)
			}
		})
	}
}
