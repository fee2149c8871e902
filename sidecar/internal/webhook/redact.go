package webhook

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/chat-recall/recall/shared"
)

const (
	maxQuotedBytes = 200 // of an answer, in an error
	minSecretBytes = 8   // shorter parts of a URL are words such as "v1", and no secrets
	redacted       = "…"
)

// redactor keeps the URL and the secrets of a webhook out of errors. A URL may hold a token, and many servers repeat
// its path when they answer 404.
type redactor struct{ parts []string }

func newRedactor(u *url.URL) *redactor {
	parts := []string{u.String(), u.RequestURI(), u.EscapedPath(), u.Path, u.RawQuery, u.Host, u.Hostname()}
	words := strings.Split(u.Path, "/")
	for _, values := range u.Query() {
		words = append(words, values...)
	}
	for _, word := range words {
		if len(word) >= minSecretBytes {
			parts = append(parts, word, url.QueryEscape(word), url.PathEscape(word))
		}
	}
	return &redactor{parts}
}

// err returns an error with the text of err, without the URL and the secrets.
func (r *redactor) err(ctx context.Context, err error, secrets [][]byte) error {
	var answer *answerError
	switch {
	case errors.As(err, &answer):
		return &answerError{answer.prefix, quotable(r.text(answer.text, secrets), maxQuotedBytes)}
	case ctx.Err() != nil:
		return fmt.Errorf("the attempt ended without a complete answer: %w", ctx.Err())
	}
	return errors.New(quotable(r.text(err.Error(), secrets), shared.MaxStepErrorBytes))
}

// text replaces the URL before its parts.
func (r *redactor) text(s string, secrets [][]byte) string {
	parts := slices.Clone(r.parts)
	for _, secret := range secrets {
		parts = append(parts, base64.StdEncoding.EncodeToString(secret), string(secret))
	}
	for _, part := range parts {
		if len(part) > 1 { // a path is at least "/"
			s = strings.ReplaceAll(s, part, redacted)
		}
	}
	return s
}

// quotable returns the beginning of s in one line, at most limit bytes of valid and printable UTF-8.
func quotable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= limit {
		return s
	}
	for !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
