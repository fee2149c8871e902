package adapter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/chat-recall/recall/shared"
)

// ReadJSON reads the body of a request: one JSON object without unknown fields, of at most limit bytes.
func ReadJSON(r *http.Request, limit int64, into any) error {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &StatusError{http.StatusRequestEntityTooLarge, shared.Invalidf("body", "is larger than %d bytes", limit)}
	case err != nil:
		return &StatusError{http.StatusBadRequest, fmt.Errorf("read the body: %w", err)}
	}
	// The decoder would put U+FFFD in the place of what is no text, and so make one id of two.
	if !utf8.Valid(body) || loneSurrogate(body) {
		return shared.Invalidf("body", "is not valid UTF-8, or has an escape of half a character")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err = d.Decode(into)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is more than one JSON value")
		}
	}
	var wrongType *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrongType) && wrongType.Field != "":
		return shared.Invalidf(wrongType.Field, "is a JSON %s, which does not belong there", wrongType.Value)
	case strings.HasPrefix(err.Error(), "json: unknown field "):
		name := strings.Trim(strings.TrimPrefix(err.Error(), "json: unknown field "), `"`)
		return shared.Invalidf(name, "there is no such field")
	}
	return shared.Invalidf("body", "is not the JSON object that is expected: %v", err)
}

// loneSurrogate tells whether JSON has an escape of one half of a UTF-16 pair without the other.
func loneSurrogate(body []byte) bool {
	high := false // the escape just before was a first half
	for i := 0; i < len(body); i++ {
		if body[i] != '\\' || i+1 == len(body) {
			if high {
				return true
			}
			continue
		}
		i++
		var unit uint64
		if body[i] == 'u' && i+4 < len(body) {
			unit, _ = strconv.ParseUint(string(body[i+1:i+5]), 16, 16)
			i += 4
		}
		second := unit >= 0xDC00 && unit <= 0xDFFF
		if second != high {
			return true
		}
		high = unit >= 0xD800 && unit <= 0xDBFF
	}
	return high
}
