package host

import (
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/wire"
)

func TestStderrTail_Log(t *testing.T) {
	var tail stderrTail
	logger := hclog.New(&hclog.LoggerOptions{Name: "recall-plugin", Level: hclog.Debug, Output: &tail, JSONFormat: true})
	logger.Warn("the disk is full", "free", 3)
	logger.Debug("opened")
	logger.Named(wire.AuditLogger).Info("refused", "actor", "ann", "reason", "private")
	if got := tail.String(); got != "[WARN] the disk is full free=3" {
		t.Errorf("%q", got)
	}
}
