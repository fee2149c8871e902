package host_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

func TestMetrics(t *testing.T) {
	doc, err := os.ReadFile("../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	h := hosttest.Open(t, host.Config{Steps: map[string]host.Step{shared.StepNotify: {Run: done}}})
	index(t, h, "m")
	if err := h.Wait(within(t), "acme", takeBack(t, h, "m").RecallID); err != nil {
		t.Fatal(err)
	}
	metrics, err := h.Metrics(within(t))
	if err != nil {
		t.Fatal(err)
	}
	ran, calls := false, false
	for _, m := range metrics {
		if !strings.Contains(string(doc), "`"+m.Name+"`") {
			t.Errorf("docs/operating.md does not have %s", m.Name)
		}
		ran = ran || m.Name == "recall_host_step_seconds" && m.Count == 1 && m.Labels["step"] == shared.StepNotify &&
			m.Labels["outcome"] == "done"
		calls = calls || m.Name == "recall_call_seconds" && m.Count == 1 && m.Labels["method"] == "Recall"
	}
	if !ran || !calls {
		t.Errorf("the step and the call are not timed: %+v", metrics)
	}
}

func TestMetrics_PluginThatHangs(t *testing.T) {
	h := hosttest.Open(t, host.Config{})
	hosttest.Hang(t, h)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	metrics, err := h.Metrics(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if len(metrics) == 0 || !strings.HasPrefix(metrics[0].Name, "recall_host_") {
		t.Errorf("those of the host are not there: %v", metrics)
	}
	hosttest.Kill(t, h) // so that Close does not wait for it
}
