package host

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func TestFromSlog(t *testing.T) {
	var out bytes.Buffer
	handler := slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo})
	l := FromSlog(slog.New(handler)).Named("recall").Named("plugin").With("pid", 7)
	l.Debug("quiet")
	l.Warn("loud", "step", "notify")
	if got := out.String(); strings.Contains(got, "quiet") ||
		!strings.Contains(got, `level=WARN msg=loud pid=7 logger=recall.plugin step=notify`) {
		t.Errorf("got %s", got)
	}
	if l.IsDebug() || !l.IsInfo() || l.GetLevel() != hclog.Info {
		t.Errorf("level %s", l.GetLevel())
	}
	if args := l.ImpliedArgs(); len(args) != 2 || args[0] != "pid" {
		t.Errorf("implied %v", args)
	}
	out.Reset()
	l.StandardLogger(nil).Println("from log")
	if !strings.Contains(out.String(), `msg="from log"`) {
		t.Errorf("got %s", out.String())
	}
}
