package main

import (
	"fmt"
	"io"

	"github.com/hashicorp/go-hclog"
	"github.com/mattermost/mattermost/server/public/plugin"
)

// newLogger returns a logger that writes to Mattermost's log.
func newLogger(api plugin.API) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Debug})
	l.RegisterSink(logSink{api})
	return l
}

type logSink struct{ api plugin.API }

// Accept implements hclog.SinkAdapter. Values go to the server as text: its decoder knows no types of this process.
func (s logSink) Accept(name string, level hclog.Level, msg string, args ...any) {
	var pairs []any
	if name != "" {
		pairs = append(pairs, "logger", name)
	}
	for _, a := range args {
		pairs = append(pairs, fmt.Sprint(a))
	}
	switch level {
	case hclog.Error:
		s.api.LogError(msg, pairs...)
	case hclog.Warn:
		s.api.LogWarn(msg, pairs...)
	case hclog.Info:
		s.api.LogInfo(msg, pairs...)
	default:
		s.api.LogDebug(msg, pairs...)
	}
}
