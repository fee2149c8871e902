package host_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
)

func TestOpen_AnotherBinaryThanTheLastInForce(t *testing.T) {
	runDir := hosttest.RunDir(t)
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), t.TempDir())
	const warning = "plugin.hcl names another binary than the one that was in force last"
	open := func() (*host.Host, *hosttest.LogBuffer) {
		log := &hosttest.LogBuffer{}
		h := hosttest.Open(t, host.Config{File: file, RunDir: runDir, Logger: hclog.New(&hclog.LoggerOptions{Output: log})})
		return h, log
	}
	quiet := func(when string, h *host.Host, log *hosttest.LogBuffer) {
		t.Helper()
		if st := h.State(); st.Previous != nil || strings.Contains(log.String(), warning) {
			t.Errorf("%s: state says %+v, the log\n%s", when, st.Previous, log)
		}
	}
	h, log := open()
	quiet("at the first start", h, log)
	h.Close()
	h, log = open()
	quiet("at a restart", h, log)
	first := h.State().SHA256
	other := hosttest.BuildFaulty(t, "newer-minor")
	if _, err := h.Upgrade(within(t), host.Binary{Path: other}); err != nil {
		t.Fatal(err)
	}
	hosttest.Kill(t, h)
	eventually(t, "the plugin is started again", func() bool { return h.State().Restarts == 1 })
	quiet("after an upgrade and a crash of the plugin", h, log)
	upgraded := h.State()
	h.Close()

	h, log = open()
	want := host.PreviousBinary{Binary: other, SHA256: upgraded.SHA256, Version: upgraded.Version}
	st := h.State()
	if st.SHA256 != first || st.Previous == nil || *st.Previous != want {
		t.Errorf("after an upgrade and a restart of the host: %+v, want previous %+v", st, want)
	}
	if text := log.String(); !strings.Contains(text, "[WARN]  recall: "+warning) || !strings.Contains(text, want.SHA256) {
		t.Errorf("log:\n%s", text)
	}
	if data, err := json.Marshal(st); err != nil || !strings.Contains(string(data), `"previous":{"binary":`) {
		t.Errorf("%s, %v", data, err)
	}
	if _, err := h.Upgrade(within(t), host.Binary{Path: other}); err != nil {
		t.Fatal(err)
	}
	quiet("after the next upgrade", h, &hosttest.LogBuffer{})
	h.Close()

	t.Run("a file that cannot be read is no obstacle", func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(runDir, "last-used.json"), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		h, log := open()
		quiet("with a broken file", h, log)
		if !strings.Contains(log.String(),
			"[WARN]  recall: the file that says which index and binary were used last is damaged") {
			t.Errorf("log:\n%s", log)
		}
	})
}
