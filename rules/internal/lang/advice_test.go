package lang

import (
	"strings"
	"testing"
)

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"admin", "admin", 0}, {"", "abc", 3}, {"abc", "", 3},
		{"admim", "admin", 1}, {"amdin", "admin", 2}, {"ownr", "owner", 1}, {"owneer", "owner", 1}, {"kitten", "sitting", 3},
		{"größe", "große", 1},
		{strings.Repeat("a", 64), "a", 63}, {"a", strings.Repeat("a", 64), 63}, // the longest words that are compared
		{strings.Repeat("a", 65), strings.Repeat("a", 65), 64}, {strings.Repeat("a", 65), "a", 64}, {"a",
			strings.Repeat("a", 65), 64},
	} {
		if got := editDistance(c.a, c.b); got != c.want {
			t.Errorf("%.10q to %.10q: got %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"owner", "admin", "member", "a"}
	for word, want := range map[string]string{
		"ownr": "owner", "OWNER": "owner", "admim": "admin", "xyner": "owner", // at most a third is wrong
		"ab": "a", "mmbr": "", "xyzer": "", "b": "", "xyz": "", "": "",
	} {
		if got := Nearest(word, words); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
	t.Run("the first of equally similar ones", func(t *testing.T) {
		if got := Nearest("ac", []string{"ab", "ad"}); got != "ab" {
			t.Errorf("got %q", got)
		}
	})
}

func TestQuoteAll(t *testing.T) {
	for want, words := range map[string][]string{
		"": nil, `"a"`: {"a"}, `"a" or "b"`: {"a", "b"}, `"a", "b", "c" or "d"`: {"a", "b", "c", "d"},
	} {
		if got := quoteAll(words); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestFieldAdvice(t *testing.T) {
	for name, want := range map[string]string{
		"message.typ": "Did you mean message.type? There are message.id, message.type, message.age, message.sent_at, " +
			"message.sender, message.labels.",
		"message.zzzzzz": "There are message.id, message.type, message.age, message.sent_at, message.sender, message.labels.",
		"mesage.type":    "Did you mean message.type?",
		"mesage.zzzzzz":  "Did you mean message? Fields begin with tenant, message, conversation, actor, request.",
		"tennant":        "Did you mean tenant? Fields begin with tenant, message, conversation, actor, request.",
		"is_sender":      "Did you mean actor.is_sender?",
		"zzzzzzzzz": "Fields begin with tenant, message, conversation, actor, request; a string is written between " +
			"quotes.",
	} {
		if got := fieldAdvice(name); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, want)
		}
	}
}
