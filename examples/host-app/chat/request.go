package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/chat-recall/recall/shared"
)

// readJSON reads a body of one JSON object without unknown fields.
func readJSON(r *http.Request, into any) error {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBodyBytes))
	if err != nil {
		return err
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

// number reads a query parameter that is a whole number of at least 0; absent is 0.
func number(r *http.Request, name string) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, shared.Invalidf(name, "is %.40q; a whole number from 0", text)
	}
	return n, nil
}
