package host_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

func TestLane_CarriesTheCalls(t *testing.T) {
	binary := hosttest.BuildFaulty(t, "lane-only")
	h := hosttest.Open(t, host.Config{File: hosttest.WriteConfig(t, binary, t.TempDir())})
	index(t, h, "m1")
	hosttest.Kill(t, h)
	index(t, h, "m2") // each plugin process has a lane of its own
	if _, err := h.Upgrade(within(t), host.Binary{Path: binary}); err != nil {
		t.Fatal(err)
	}
	index(t, h, "m3")
}

// TestLane_Off runs the tests of calls, crashes, upgrades and broken plugins with calls by gRPC.
func TestLane_Off(t *testing.T) {
	t.Setenv(wire.LaneEnv, "off")
	t.Run("calls go by gRPC", func(t *testing.T) {
		file := hosttest.WriteConfig(t, hosttest.BuildFaulty(t, "lane-only"), t.TempDir())
		h, err := host.Open(within(t), host.Config{File: file, RunDir: hosttest.RunDir(t)})
		if !errors.Is(err, shared.ErrUnimplemented) {
			t.Errorf("a plugin that answers on the lane only: %v", err)
		}
		if err == nil {
			h.Close()
		}
	})
	t.Run("calls and steps", TestRecall_RunsEachStepOnce)
	t.Run("crashes under callers", TestKill_UnderLoad)
	t.Run("upgrade under callers", TestUpgrade_UnderLoad)
	t.Run("upgrades between versions", TestOpen_OtherMinorVersion)
	t.Run("hang", TestHang_PluginIsReplaced)
	t.Run("poisonous call", TestHost_PoisonousCallHarmsNoOther)
	t.Run("answers in another order", TestHost_AnswersInAnotherOrderAreRefused)
}

func TestLane_SettingThatIsWrong(t *testing.T) {
	t.Setenv(wire.LaneEnv, "of")
	h, err := host.Open(within(t), host.Config{
		File: hosttest.WriteConfig(t, hosttest.BuildPlugin(t), t.TempDir()), RunDir: hosttest.RunDir(t),
	})
	if err == nil {
		h.Close()
	}
	if err == nil || !strings.Contains(err.Error(), `RECALL_LANE is "of"; set it to on or off`) {
		t.Errorf("got %v", err)
	}
}

func TestLane_StoppedPluginHoldsUpNoCaller(t *testing.T) {
	h := hosttest.Open(t, host.Config{})
	hosttest.Hang(t, h)
	defer hosttest.Continue(t, h)
	ids := make([]string, shared.MaxStatusIDs)
	for i := range ids {
		ids[i] = strings.Repeat("i", 200)
	}
	for range 20 { // 4 MB, more than the socket takes
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		began := time.Now()
		_, err := h.Status(ctx, "acme", ids)
		cancel()
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > 5*time.Second {
			t.Fatalf("a call of 5 ms ended after %v with %v", took, err)
		}
	}
}
