package adapter_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// A decoder that puts U+FFFD in the place of what is no text makes one id of two.
func TestReadJSON_InvalidUTF8(t *testing.T) {
	for text, refused := range map[string]bool{
		`"\ud83d\ude00"`: false, `"\\ud800"`: false, `"é \u00e9"`: false, `"\"\u0041"`: false,
		`"\ud83d"`: true, `"\ude00"`: true, `"\ud83dx\ude00"`: true, `"\ud83d\n"`: true, `"\ud83d\ud83d\ude00"`: true,
		"\"\xff\"": true,
	} {
		var in struct{ ID string }
		err := adapter.ReadJSON(httptest.NewRequest("POST", "/", strings.NewReader(`{"id":`+text+`}`)), 100, &in)
		if errors.Is(err, shared.ErrInvalid) != refused {
			t.Errorf("%s: %v", text, err)
		}
	}
}
