package rulestest

import (
	"strings"
	"testing"
	"time"
)

func TestParseCase(t *testing.T) {
	c, err := ParseCase([]byte(
		`{"role": "owner", "sender": false, "labels": ["a"], "age": "1d", "sent_at": "2026-05-01T00:00:00Z"}`))
	if err != nil {
		t.Fatal(err)
	}
	in, err := c.Input()
	if err != nil || in.ActorRole != "owner" || in.IsSender() || in.Age() != 24*time.Hour || in.MessageLabels[0] != "a" ||
		in.SentAt.Month() != 5 {
		t.Errorf("%+v %v", in, err)
	}
	back, err := caseOf(in).Input()
	if err != nil || back.Sender != in.Sender || !back.RequestedAt.Equal(in.RequestedAt) ||
		back.ActorRole != in.ActorRole {
		t.Errorf("shown and read again it is %+v, %v", back, err)
	}
	for text, want := range map[string]string{
		`{"rol": "owner"}`:                     `Did you mean "role"?`,
		`{"Role": "owner"}`:                    `no field "Role"`,
		`{"role": 5}`:                          `decode the case`,
		`["owner"]`:                            `not a JSON object`,
		`{"role": "ownr"}`:                     `Did you mean "owner"?`,
		`{"age": "-1m"}`:                       `age: "-1m" is not a duration`,
		`{"sent_at": "May"}`:                   `sent_at: "May" is not a time`,
		`{"sender": true, "sent_by": "bob"}`:   `sender is true`,
		`{"conversation": "groups"}`:           `Did you mean "group"?`,
		`{"type": "texts", "role": "nothing"}`: `unknown message type "texts"`,
	} {
		c, err := ParseCase([]byte(text))
		if err == nil {
			_, err = c.Input()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
