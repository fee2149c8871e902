package host

import (
	"bytes"
	"context"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// FromSlog returns a logger for Config.Logger that writes to l. It maps hclog's Trace level to slog.LevelDebug-4.
func FromSlog(l *slog.Logger) hclog.Logger { return &slogLogger{slog: l} }

// slogLogger is an hclog.Logger over slog. What hclog can set at run time, the level, belongs to slog's handler.
type slogLogger struct {
	slog *slog.Logger
	name string
	args []any // of With, as ImpliedArgs tells them
}

const levelTrace = slog.LevelDebug - 4

var slogLevels = map[hclog.Level]slog.Level{
	hclog.NoLevel: slog.LevelInfo, hclog.Trace: levelTrace, hclog.Debug: slog.LevelDebug, hclog.Info: slog.LevelInfo,
	hclog.Warn: slog.LevelWarn, hclog.Error: slog.LevelError,
}

func (l *slogLogger) Log(level hclog.Level, msg string, args ...any) {
	to, ok := slogLevels[level]
	if !ok { // hclog.Off
		return
	}
	if l.name != "" {
		args = append([]any{"logger", l.name}, args...)
	}
	l.slog.Log(context.Background(), to, msg, args...)
}

func (l *slogLogger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *slogLogger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *slogLogger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *slogLogger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *slogLogger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *slogLogger) enabled(level hclog.Level) bool {
	return l.slog.Enabled(context.Background(), slogLevels[level])
}

func (l *slogLogger) IsTrace() bool { return l.enabled(hclog.Trace) }
func (l *slogLogger) IsDebug() bool { return l.enabled(hclog.Debug) }
func (l *slogLogger) IsInfo() bool  { return l.enabled(hclog.Info) }
func (l *slogLogger) IsWarn() bool  { return l.enabled(hclog.Warn) }
func (l *slogLogger) IsError() bool { return l.enabled(hclog.Error) }

func (l *slogLogger) ImpliedArgs() []any { return l.args }

func (l *slogLogger) With(args ...any) hclog.Logger {
	return &slogLogger{slog: l.slog.With(args...), name: l.name, args: append(append([]any(nil), l.args...), args...)}
}

func (l *slogLogger) Name() string { return l.name }

func (l *slogLogger) Named(name string) hclog.Logger {
	if l.name != "" {
		name = l.name + "." + name
	}
	return l.ResetNamed(name)
}

func (l *slogLogger) ResetNamed(name string) hclog.Logger {
	return &slogLogger{slog: l.slog, name: name, args: l.args}
}

func (l *slogLogger) SetLevel(hclog.Level) {}

// GetLevel is the lowest level that the handler takes.
func (l *slogLogger) GetLevel() hclog.Level {
	for level := hclog.Trace; level <= hclog.Error; level++ {
		if l.enabled(level) {
			return level
		}
	}
	return hclog.Off
}

func (l *slogLogger) StandardLogger(opts *hclog.StandardLoggerOptions) *log.Logger {
	return log.New(l.StandardWriter(opts), "", 0)
}

func (l *slogLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		l.Info(string(bytes.TrimRight(p, "\r\n")))
		return len(p), nil
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
