package sidecartest_test

import (
	"testing"

	"github.com/chat-recall/recall/sidecar/sidecartest"
)

// What is acknowledged survives every end of the sidecar and of its plugin.
func TestStart_EveryEnd(t *testing.T) {
	s := sidecartest.Start(t, `step "history" { pull = true }`)
	s.Post("index", `{"messages":[{"tenant":"acme","id":"m1","conversation":{"type":"group","id":"g1"},"sender":"ann",
		"type":"text","sent_at":"2026-01-01T00:00:00Z"}]}`, nil)
	for _, end := range []struct {
		name string
		do   func()
	}{
		{"stop", func() { s.Stop(); s.Start() }},
		{"kill", func() { s.Kill(); s.Start() }},
		{"kill the plugin", s.KillPlugin},
		{"upgrade", s.Upgrade},
	} {
		end.do()
		var answer struct {
			Results []struct{ State string }
		}
		s.Post("status", `{"tenant":"acme","ids":["m1"]}`, &answer)
		if len(answer.Results) != 1 || answer.Results[0].State != "live" {
			t.Errorf("after %s: %+v", end.name, answer)
		}
	}
}
