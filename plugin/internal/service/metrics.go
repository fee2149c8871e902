package service

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

// counters count what was answered since the process started.
type counters struct {
	mu     sync.Mutex
	values map[string]float64
}

func (c *counters) add(name string, n float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.values == nil {
		c.values = map[string]float64{}
	}
	c.values[name] += n
}

func (c *counters) indexed(results []shared.IndexResult) {
	n := map[shared.IndexStatus]float64{} // of few statuses, so that a batch does not make a name for each message
	for _, r := range results {
		n[r.Status]++
	}
	for status, n := range n {
		c.add("messages_"+string(status)+"_total", n)
	}
}

func (c *counters) settled(all []wire.Settlement) {
	n := map[shared.Outcome]float64{}
	for _, x := range all {
		n[x.Outcome]++
	}
	for outcome, n := range n {
		c.add("steps_"+string(outcome)+"_total", n)
	}
}

func (c *counters) recalled(results []shared.RecallResult) {
	for _, r := range results {
		c.add("recalls_"+string(r.Status)+"_total", 1)
		if r.Status == shared.StatusDenied {
			c.add("recalls_denied_"+string(r.Code)+"_total", 1)
		}
	}
}

// maxCounted is how far the events are counted whose step backs off: some milliseconds for each step.
const maxCounted = 10_000

// Metrics is wire.Lifecycle. Counters count since the process started.
func (s *Service) Metrics(ctx context.Context) ([]shared.Metric, error) {
	out := s.counts.metrics()
	gauge := func(name string, value float64) { out = append(out, shared.Metric{Name: name, Value: value}) }
	a, leave, err := s.enter()
	if err == nil {
		defer leave()
		gauge("state_active", 1)
		st, queue := a.index.Stats(), a.local.Stats()
		gauge("index_sequence", float64(st.Sequence))
		gauge("index_commits_total", float64(st.Commits))
		gauge("index_operations_total", float64(st.Operations))
		gauge("index_overloads_total", float64(queue.Overloads))
		gauge("index_queue_calls", float64(queue.QueueCalls))
		gauge("index_queue_bytes", float64(queue.QueueBytes))
		gauge("index_disk_bytes", float64(st.DiskBytes))
		gauge("index_scrubs_total", float64(st.Scrubs))
		gauge("index_damaged", number(st.Damaged))
		gauge("index_read_only", number(st.ReadOnly))
		inFlight := a.dispatcher.inFlight()
		for _, step := range a.steps {
			gauge("step_"+step+"_in_flight", float64(inFlight[step]))
			n, err := a.index.CountBackingOff(ctx, step, maxCounted)
			if err != nil {
				return nil, fmt.Errorf("count what backs off: %w", err)
			}
			gauge("step_"+step+"_backing_off", float64(n))
		}
	} else {
		gauge("state_active", 0)
	}
	if watcher := s.followed(); watcher != nil {
		st := watcher.State()
		gauge("rules_last_reload_successful", number(len(st.Refused) == 0))
		gauge("rules_fallback", number(st.Fallback))
		gauge("rules_loaded_timestamp_seconds", float64(st.Loaded.UnixMilli())/1000)
	}
	slices.SortFunc(out, func(x, y shared.Metric) int { return strings.Compare(x.Name, y.Name) })
	return out, nil
}

func (c *counters) metrics() []shared.Metric {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]shared.Metric, 0, len(c.values))
	for name, value := range c.values {
		out = append(out, shared.Metric{Name: name, Value: value})
	}
	return out
}

// number is 1 for what is so.
func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
