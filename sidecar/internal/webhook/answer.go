package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/chat-recall/recall/shared"
)

// answerError is the text of an answer that failed the attempt. prefix is ours, text the receiver's.
type answerError struct{ prefix, text string }

func (e *answerError) Error() string {
	if e.text == "" {
		return e.prefix
	}
	return e.prefix + ": " + e.text
}

// outcomeOf reads the answer to an attempt. body is at most one byte longer than maxAnswerBytes; readErr is why it is
// incomplete.
func outcomeOf(status int, body []byte, readErr error) (shared.Outcome, error) {
	prefix := fmt.Sprintf("HTTP %d", status)
	if status/100 != 2 {
		return "", &answerError{prefix, string(body)}
	}
	if readErr != nil { // a failure may stand in what is missing
		return "", fmt.Errorf("%s, but its body is incomplete: %w", prefix, readErr)
	}
	body = bytes.TrimSpace(body)
	if len(body) > maxAnswerBytes && body[0] == '{' {
		return "", &answerError{fmt.Sprintf("%s, but its JSON is longer than %d bytes", prefix, maxAnswerBytes), ""}
	}
	var answer struct {
		Outcome any `json:"outcome"`
		Error   any `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Outcome == nil {
		return shared.OutcomeDone, nil
	}
	text, _ := answer.Outcome.(string)
	outcome := shared.Outcome(text)
	switch {
	case outcome.Settles():
		return outcome, nil
	case outcome == shared.OutcomeFailed:
		why, _ := answer.Error.(string)
		return "", &answerError{prefix + " with outcome failed", why}
	}
	return "", &answerError{prefix + " with an unknown outcome", fmt.Sprint(answer.Outcome)}
}
