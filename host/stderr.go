package host

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/wire"
)

// What is kept of a plugin's stderr, for the error that says why the plugin died.
const (
	tailLines     = 20
	tailBytes     = 8 << 10
	tailLineBytes = 1 << 10 // of one line
)

// crashHeaders begin what the Go runtime prints before it ends a process. The cause follows at once, and then the
// stacks of goroutines, any number of lines.
var crashHeaders = []string{
	"panic: ", "fatal error: ", "runtime: ", "unexpected fault address ",
	"SIGABRT: ", "SIGBUS: ", "SIGFPE: ", "SIGILL: ", "SIGQUIT: ", "SIGSEGV: ", "SIGSYS: ", "SIGTRAP: ",
}

// A stderrTail keeps the last lines that a plugin wrote to stderr. From a crash of the Go runtime it keeps the
// first ones, which hold the cause. Log lines below INFO and refusals are left out: they go to the host's log, and
// explain no death.
type stderrTail struct {
	mu      sync.Mutex
	line    []byte // not ended yet, at most tailLineBytes of it
	lines   []string
	size    int  // of lines, in bytes
	crashed bool // a crash header was seen
}

// Write is io.Writer.
func (t *stderrTail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for rest := p; len(rest) > 0; {
		part, after, ended := bytes.Cut(rest, []byte("\n"))
		t.line = append(t.line, part[:min(len(part), max(0, tailLineBytes-len(t.line)))]...)
		if ended {
			t.add(string(t.line))
			t.line = t.line[:0]
		}
		rest = after
	}
	return len(p), nil
}

// add takes one line, with mu held.
func (t *stderrTail) add(line string) {
	line = strings.ToValidUTF8(strings.TrimRight(line, "\r"), "\uFFFD")
	if strings.HasPrefix(line, "{") {
		line = readableLog(line)
	}
	if strings.TrimSpace(line) == "" {
		return
	}
	isHeader := func(header string) bool { return strings.HasPrefix(line, header) }
	if !t.crashed && slices.ContainsFunc(crashHeaders, isHeader) {
		t.crashed = true
		t.lines, t.size = nil, 0
	}
	if t.crashed && (len(t.lines) == tailLines || t.size+len(line) > tailBytes) {
		return
	}
	t.lines, t.size = append(t.lines, line), t.size+len(line)
	for len(t.lines) > tailLines || t.size > tailBytes {
		t.size -= len(t.lines[0])
		t.lines = t.lines[1:]
	}
}

// String is the lines that were kept.
func (t *stderrTail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := t.lines
	if len(t.line) > 0 {
		lines = append(slices.Clip(lines), string(t.line))
	}
	return strings.Join(lines, "\n")
}

// readableLog turns a line of hclog's JSON into one for people. It is empty for a line below INFO, and for a refusal.
func readableLog(line string) string {
	var entry map[string]any
	if json.Unmarshal([]byte(line), &entry) != nil || entry["@message"] == nil {
		return line
	}
	level, _ := entry["@level"].(string)
	module, _ := entry["@module"].(string)
	if hclog.LevelFromString(level) < hclog.Info || strings.HasSuffix(module, "."+wire.AuditLogger) {
		return ""
	}
	var text strings.Builder
	fmt.Fprintf(&text, "[%s] %v", strings.ToUpper(level), entry["@message"])
	keys := make([]string, 0, len(entry))
	for k := range entry {
		if !strings.HasPrefix(k, "@") {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		fmt.Fprintf(&text, " %s=%v", k, entry[k])
	}
	return text.String()
}
