package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/status"

	"github.com/chat-recall/recall/internal/metrics"
	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

// counters count what was answered since the process started.
type counters struct {
	registry *prometheus.Registry
	messages *prometheus.CounterVec // status
	recalls  *prometheus.CounterVec // status, code
	checks   prometheus.Counter
	steps    *prometheus.CounterVec   // step, outcome
	reloads  *prometheus.CounterVec   // result
	shadow   *prometheus.CounterVec   // rule, verdict
	erasures *prometheus.CounterVec   // reason, state
	calls    *prometheus.HistogramVec // method
	errors   *prometheus.CounterVec   // method, code
	examined prometheus.Counter       // messages, by jobs and previews
}

func newCounters() *counters {
	c := &counters{registry: prometheus.NewRegistry()}
	vec := func(name string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name}, labels)
		c.registry.MustRegister(v)
		return v
	}
	c.messages, c.recalls = vec("recall_messages_total", "status"), vec("recall_recalls_total", "status", "code")
	c.steps, c.reloads = vec("recall_steps_total", "step", "outcome"), vec("recall_rules_reloads_total", "result")
	c.shadow, c.errors = vec("recall_rules_shadow_total", "rule", "verdict"),
		vec("recall_call_errors_total", "method", "code")
	c.erasures = vec("recall_messages_erased_total", "reason", "state")
	for _, reason := range []string{"forget", "keep_messages"} {
		c.erased(reason, 0, 0)
	}
	c.checks = prometheus.NewCounter(prometheus.CounterOpts{Name: "recall_checks_total"})
	c.examined = prometheus.NewCounter(prometheus.CounterOpts{Name: "recall_job_messages_examined_total"})
	c.calls = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "recall_call_seconds", Buckets: metrics.Seconds},
		[]string{"method"})
	c.registry.MustRegister(c.checks, c.examined, c.calls)
	// Counters are there from the start, so that the first event is an increase.
	for _, status := range []shared.IndexStatus{
		shared.IndexAdded, shared.IndexAmended, shared.IndexUnchanged, shared.IndexConflict, shared.IndexRecalled,
		shared.IndexNotFound, shared.IndexInvalid,
	} {
		c.messages.WithLabelValues(string(status))
	}
	for _, status := range []shared.RecallStatus{
		shared.StatusRecalled, shared.StatusAlreadyRecalled, shared.StatusNotFound, shared.StatusAborted,
	} {
		c.recalls.WithLabelValues(string(status), "")
	}
	for _, code := range []shared.Code{
		shared.CodeForbidden, shared.CodeWindowExpired, shared.CodeTypeNotRecallable, shared.CodeReasonRequired,
		shared.CodeRateLimited, shared.CodeRecallIDUsed,
	} {
		c.recalls.WithLabelValues(string(shared.StatusDenied), string(code))
	}
	c.reloads.WithLabelValues("loaded")
	c.reloads.WithLabelValues("refused")
	return c
}

// hasSteps makes the counters of the steps of a host.
func (c *counters) hasSteps(steps []string) {
	for _, step := range steps {
		for _, outcome := range []shared.Outcome{
			shared.OutcomeDone, shared.OutcomeNothingToDo, shared.OutcomeUnsupported, shared.OutcomeFailed,
			shared.OutcomeDeferred,
		} {
			c.steps.WithLabelValues(step, string(outcome))
		}
	}
}

func (c *counters) indexed(results []shared.IndexResult) {
	n := map[shared.IndexStatus]float64{} // of few statuses, so that a batch does not find a counter for each message
	for _, r := range results {
		n[r.Status]++
	}
	for status, n := range n {
		c.messages.WithLabelValues(string(status)).Add(n)
	}
}

// erased counts messages that were erased, for a reason.
func (c *counters) erased(reason string, live, recalled int) {
	c.erasures.WithLabelValues(reason, "live").Add(float64(live))
	if reason != "keep_messages" { // which keeps those
		c.erasures.WithLabelValues(reason, "recalled").Add(float64(recalled))
	}
}

func (c *counters) settled(all []wire.Settlement) {
	for _, x := range all {
		c.steps.WithLabelValues(x.Step, string(x.Outcome)).Inc()
	}
}

func (c *counters) recalled(r *shared.RecallResult) {
	c.recalls.WithLabelValues(string(r.Status), string(r.Code)).Inc()
}

// Observe is a [wire.Interceptor]: it counts and times calls.
func (e *Engine) Observe(ctx context.Context, method string) (context.Context, func(error)) {
	began := time.Now()
	if method != "Settle" && method != "PreviewJob" && method != "JobStatus" {
		e.asked.Add(1)
	}
	return ctx, func(err error) {
		e.counts.calls.WithLabelValues(method).Observe(time.Since(began).Seconds())
		if err != nil {
			e.counts.errors.WithLabelValues(method, status.Code(err).String()).Inc()
		}
	}
}

// maxCounted is how far the events are counted whose step backs off: some milliseconds for each step.
const maxCounted = 10_000

// Metrics is [wire.Lifecycle]. Counters count since the process started.
func (e *Engine) Metrics(ctx context.Context) ([]shared.Metric, error) {
	out, err := metrics.Gather(e.counts.registry)
	if err != nil {
		return nil, err
	}
	gauge := func(name string, value float64) {
		out = append(out, shared.Metric{Name: name, Kind: shared.MetricGauge, Value: value})
	}
	counter := func(name string, value float64) {
		out = append(out, shared.Metric{Name: name, Kind: shared.MetricCounter, Value: value})
	}
	a, leave, err := e.enter()
	if err == nil {
		defer leave()
		gauge("recall_active", 1)
		st, queue := a.index.Stats(), a.log.Stats()
		gauge("recall_index_sequence", float64(st.Sequence))
		counter("recall_index_commits_total", float64(st.Commits))
		counter("recall_index_operations_total", float64(st.Operations))
		counter("recall_index_overloads_total", float64(queue.Overloads))
		gauge("recall_index_queue_calls", float64(queue.QueueCalls))
		gauge("recall_index_queue_bytes", float64(queue.QueueBytes))
		gauge("recall_index_disk_bytes", float64(st.DiskBytes))
		counter("recall_index_scrubs_total", float64(st.Scrubs))
		gauge("recall_index_damaged", number(st.Damaged))
		gauge("recall_index_read_only", number(st.ReadOnly))
		gauge("recall_jobs_running", float64(e.runner.count(isJob)))
		steps, err := e.stepMetrics(ctx, a)
		if err != nil {
			return nil, err
		}
		out = append(out, steps...)
		if c := a.cluster; c != nil {
			s, err := c.state()
			if err != nil {
				return nil, err
			}
			gone, behind := 0, 0.0
			for _, m := range s.Members {
				if m.Gone {
					gone++
				}
			}
			if !s.BehindSince.IsZero() {
				behind = max(0, e.now().Sub(s.BehindSince).Seconds())
			}
			entries, retries := c.log.Counts()
			gauge("recall_cluster_connected", number(s.Connected))
			gauge("recall_cluster_members", float64(len(s.Members)-gone))
			gauge("recall_cluster_members_gone", float64(gone))
			gauge("recall_cluster_position", float64(s.Position))
			gauge("recall_cluster_lag_entries", float64(s.Lag))
			gauge("recall_cluster_lag_seconds", behind)
			counter("recall_cluster_entries_total", float64(entries))
			counter("recall_cluster_retries_total", float64(retries))
			snapshot, age := c.shots.Newest(), 0.0
			if !snapshot.Taken.IsZero() {
				age = max(0, e.now().Sub(snapshot.Taken).Seconds())
			}
			gauge("recall_cluster_snapshot_age_seconds", age)
			gauge("recall_cluster_snapshot_position", float64(snapshot.Position))
		}
	} else {
		gauge("recall_active", 0)
	}
	if watcher := e.followed(); watcher != nil {
		st := watcher.State()
		gauge("recall_rules_last_reload_successful", number(len(st.Refused) == 0))
		gauge("recall_rules_fallback", number(st.Fallback))
		gauge("recall_rules_loaded_timestamp_seconds", float64(st.Loaded.UnixMilli())/1000)
	}
	slices.SortStableFunc(out, func(x, y shared.Metric) int { return strings.Compare(x.Name, y.Name) })
	return out, nil
}

// stepMetrics are those of each step of the host.
func (e *Engine) stepMetrics(ctx context.Context, a *active) (out []shared.Metric, err error) {
	inFlight := a.dispatcher.InFlight()
	for _, step := range a.steps {
		gauge := func(name string, value float64) {
			out = append(out, shared.Metric{
				Name: name, Kind: shared.MetricGauge, Labels: map[string]string{"step": step}, Value: value,
			})
		}
		gauge("recall_step_in_flight", float64(inFlight[step]))
		n, err := a.index.CountBackingOff(ctx, step, maxCounted)
		if err != nil {
			return nil, fmt.Errorf("count what backs off: %w", err)
		}
		gauge("recall_step_backing_off", float64(n))
		oldest, err := a.index.OldestOpen(ctx, step, maxCounted)
		if err != nil {
			return nil, fmt.Errorf("find the oldest open step: %w", err)
		}
		age := 0.0
		if !oldest.IsZero() {
			age = max(0, e.now().Sub(oldest).Seconds())
		}
		gauge("recall_step_oldest_open_seconds", age)
	}
	return out, nil
}

// number is 1 for what is so.
func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
