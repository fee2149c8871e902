package replay

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/chat-recall/recall/shared"
)

// maxTraceLine bounds one line of a trace.
const maxTraceLine = 16 << 20

// TraceHelp describes the lines of a trace.
const TraceHelp = `A trace is JSON lines, in the order of time. Every line has "op" and "at" (RFC 3339).

  op message   id, conversation_id, conversation_type, sender, type, sent_at, text, attachments;
               quote, edit or forward: the id of the message that it relates to
  op recall    message_id, actor, role, recall_id, ext, reason; at is requested_at
               wait: for how many seconds it waits for a message that comes later
  op amend     message_id; labels: the new ones
  op job       job_id, actor, role, reason; filter: sender, conversation, types, labels, from, before, as in
               docs/in-your-server.md. It begins when all lines before it are done, and ends before those after it.

Any line may have "expect" with the answer that it must get: status and code of a recall; status of a message (indexed,
recalled, conflict) and of an amend (amended, unchanged, recalled, not_found); of a job the number of messages that it
recalls: recalled.
`

// traceLine is one line of a trace, with the answer that it must get.
type traceLine struct {
	Op string    `json:"op"`
	At time.Time `json:"at"`

	ID               string                  `json:"id"`
	ConversationID   string                  `json:"conversation_id"`
	ConversationType shared.ConversationType `json:"conversation_type"`
	Sender           string                  `json:"sender"`
	Type             shared.MessageType      `json:"type"`
	SentAt           time.Time               `json:"sent_at"`
	Text             string                  `json:"text"`
	Attachments      []string                `json:"attachments"`
	Quote            string                  `json:"quote"`
	Edit             string                  `json:"edit"`
	Forward          string                  `json:"forward"`

	RecallID  string      `json:"recall_id"`
	MessageID string      `json:"message_id"`
	Actor     string      `json:"actor"`
	Role      shared.Role `json:"role"`
	Ext       string      `json:"ext"`
	Reason    string      `json:"reason"`
	Wait      int         `json:"wait"` // seconds

	Labels []string          `json:"labels"`
	JobID  string            `json:"job_id"`
	Filter *shared.JobFilter `json:"filter"`

	Expect *struct {
		Status   string      `json:"status"`
		Code     shared.Code `json:"code"`
		Recalled int         `json:"recalled"`
	} `json:"expect"`

	line     int
	accepted bool // a message that the server took
}

func (l *traceLine) room() shared.Conversation {
	return shared.Conversation{Type: l.ConversationType, ID: l.ConversationID}
}

// readTrace reads a trace, gzipped or plain.
func readTrace(path string) ([]*traceLine, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the trace: %w", err)
	}
	defer file.Close()
	in := bufio.NewReader(file)
	if magic, err := in.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		zipped, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		in = bufio.NewReader(zipped)
	}
	lines, err := parseTrace(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return lines, nil
}

// parseTrace reads lines; unknown fields and empty lines are passed over.
func parseTrace(in io.Reader) ([]*traceLine, error) {
	scan := bufio.NewScanner(in)
	scan.Buffer(nil, maxTraceLine)
	var lines []*traceLine
	n := 0
	for scan.Scan() {
		n++
		if len(bytes.TrimSpace(scan.Bytes())) == 0 {
			continue
		}
		l := &traceLine{line: n}
		err := json.Unmarshal(scan.Bytes(), l)
		if err == nil {
			err = l.check()
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		lines = append(lines, l)
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n+1, err)
	}
	return lines, nil
}

// check finds what makes a line useless; what the server refuses is not looked for here.
func (l *traceLine) check() error {
	need := func(fields ...string) error {
		for i := 0; i < len(fields); i += 2 {
			if fields[i+1] == "" {
				return fmt.Errorf("%s is missing", fields[i])
			}
		}
		return nil
	}
	switch l.Op {
	case "message":
		if l.SentAt.IsZero() {
			l.SentAt = l.At
		}
		if l.SentAt.IsZero() {
			return errors.New("sent_at is missing")
		}
		return need("id", l.ID, "conversation_id", l.ConversationID, "conversation_type", string(l.ConversationType),
			"sender", l.Sender)
	case "recall":
		if l.At.IsZero() {
			return errors.New("at is missing")
		}
		return need("message_id", l.MessageID, "actor", l.Actor)
	case "amend":
		return need("message_id", l.MessageID)
	case "job":
		if l.Filter == nil {
			return errors.New("filter is missing")
		}
		return need("job_id", l.JobID, "actor", l.Actor)
	}
	return fmt.Errorf("op is %.40q; message, recall, amend or job", l.Op)
}

// about is the id of the message that a line is about; empty for a job.
func (l *traceLine) about() string {
	if l.Op == "message" {
		return l.ID
	}
	return l.MessageID
}
