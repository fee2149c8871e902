package host_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
)

// scriptPlugin writes an executable shell script.
func scriptPlugin(t *testing.T, text string) string {
	t.Helper()
	return scriptWith(t, "#!/bin/sh\n"+text+"\n")
}

func TestOpen_PluginDies(t *testing.T) {
	stack := "for i in $(seq 400); do echo \"frame $i\" >&2; done"
	for name, tc := range map[string]struct {
		binary string
		words  []string
		not    string
	}{
		"exit status and last lines": {scriptPlugin(t, "echo 'the license is missing' >&2; exit 3"),
			[]string{"exit status 3", "the license is missing"}, "SIGKILL"},
		"only the last lines": {scriptPlugin(t, stack+"; exit 1"),
			[]string{"exit status 1", "frame 400", "frame 381"}, "frame 380\n"},
		"the beginning of a crash": {scriptPlugin(t,
			"echo chatter >&2; echo 'fatal error: all is lost' >&2; "+stack+"; exit 2"),
			[]string{"exit status 2", "fatal error: all is lost", "frame 19"}, "frame 20\n"},
		"long lines": {scriptPlugin(t, "head -c 300000 /dev/zero | tr '\\0' x >&2; echo >&2; echo end >&2; exit 1"),
			[]string{"xxx", "\nend"}, strings.Repeat("x", 1025)},
		"killed":   {scriptPlugin(t, "kill -9 $$"), []string{"killed by SIGKILL", "dmesg"}, "exit status"},
		"a signal": {scriptPlugin(t, "kill -SEGV $$"), []string{"signal 11 (segmentation fault)"}, "SIGKILL"},
		"Go panic": {hosttest.BuildFaulty(t, "panic-prepare"),
			[]string{"prepare plugin", "exit status 2", "panic: fault: prepare"}, "[DEBUG]"},
		"with index": {hosttest.BuildFaulty(t, "panic-activated"),
			[]string{"activate plugin", "exit status 2", "panic: fault: activated"}, "SIGKILL"},
	} {
		t.Run(name, func(t *testing.T) {
			file := hosttest.WriteConfig(t, tc.binary, t.TempDir())
			_, err := host.Open(within(t), host.Config{File: file, RunDir: hosttest.RunDir(t)})
			if err == nil {
				t.Fatal("opened")
			}
			for _, words := range tc.words {
				if !strings.Contains(err.Error(), words) {
					t.Errorf("no %q in: %v", words, err)
				}
			}
			if strings.Contains(err.Error()+"\n", tc.not) {
				t.Errorf("%q in: %v", tc.not, err)
			}
			if len(err.Error()) > 10<<10 {
				t.Errorf("%d bytes", len(err.Error()))
			}
		})
	}
}

func TestUpgrade_NewPluginDies(t *testing.T) {
	h := hosttest.Open(t, host.Config{})
	for fault, words := range map[string]string{
		"panic-prepare": "panic: fault: prepare", "panic-activate": "panic: fault: activate",
		"panic-first-call": "panic: fault: first call",
	} {
		_, err := h.Upgrade(within(t), host.Binary{Path: hosttest.BuildFaulty(t, fault)})
		for where, text := range map[string]string{"error": fmt.Sprint(err), "state": h.State().Error} {
			if !strings.Contains(text, words) || !strings.Contains(text, "exit status 2") {
				t.Errorf("%s: %s is %q", fault, where, text)
			}
		}
	}
}

func TestSupervisor_ReportsWhyThePluginDied(t *testing.T) {
	t.Run("killed", func(t *testing.T) {
		log := &hosttest.LogBuffer{}
		h := hosttest.Open(t, host.Config{Logger: hclog.New(&hclog.LoggerOptions{Output: log})})
		for restarts := 1; restarts <= 3; restarts++ {
			hosttest.Kill(t, h)
			eventually(t, "it is started again", func() bool { return h.State().Restarts == restarts })
			if got := h.State().Error; !strings.Contains(got, "killed by SIGKILL") || strings.Contains(got, "health") {
				t.Errorf("state says %q", got)
			}
		}
		if text := log.String(); strings.Count(text, "[ERROR] recall: plugin lost") != 3 ||
			!strings.Contains(text, "killed by SIGKILL") {
			t.Errorf("log:\n%s", text)
		}
	})
	t.Run("killed for hanging", func(t *testing.T) {
		h := hosttest.Open(t, host.Config{})
		hosttest.Hang(t, h)
		eventually(t, "it is started again", func() bool { return h.State().Restarts == 1 })
		if got := h.State().Error; !strings.Contains(got, "it is hung") || strings.Contains(got, "SIGKILL") {
			t.Errorf("state says %q", got)
		}
	})
	t.Run("exits", func(t *testing.T) {
		file := hosttest.WriteConfig(t, hosttest.BuildFaulty(t, "exit-after-activate"), t.TempDir())
		log := &hosttest.LogBuffer{}
		h := hosttest.Open(t, host.Config{File: file, Logger: hclog.New(&hclog.LoggerOptions{Output: log})})
		eventually(t, "it has ended", func() bool { return h.State().Error != "" })
		if got := h.State().Error; !strings.Contains(got, "exit status 1") {
			t.Errorf("state says %q", got)
		}
	})
}
