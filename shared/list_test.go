package shared

import (
	"context"
	"errors"
	"slices"
	"testing"
)

func TestListPages(t *testing.T) {
	ctx := t.Context()
	pages := map[string]EventPage{
		"":  {Events: make([]Event, 2), Next: "a", More: true},
		"a": {Next: "b", More: true},
		"b": {Events: make([]Event, 1), Next: "c"},
		"x": {Reset: true},
	}
	var asked []ListRequest
	broken := errors.New("broken")
	list := func(_ context.Context, req ListRequest) (EventPage, error) {
		asked = append(asked, req)
		if page, ok := pages[req.After]; ok {
			return page, nil
		}
		return EventPage{}, broken
	}
	read := func(after string, stop int) (events []int, err error) {
		asked = nil
		for page, e := range ListPages(ctx, list, ListRequest{Tenant: "acme", After: after}) {
			if err = e; err == nil {
				events = append(events, len(page.Events))
			}
			if len(events) == stop {
				break
			}
		}
		return events, err
	}
	if got, err := read("", 0); err != nil || !slices.Equal(got, []int{2, 0, 1}) || asked[2].Tenant != "acme" {
		t.Errorf("all pages: %v %v %+v", got, err, asked)
	}
	if got, err := read("b", 0); err != nil || !slices.Equal(got, []int{1}) {
		t.Errorf("from a cursor: %v %v", got, err)
	}
	if got, err := read("", 1); err != nil || len(got) != 1 || len(asked) != 1 {
		t.Errorf("the first page alone: %v %v %d", got, err, len(asked))
	}
	if got, err := read("x", 0); !errors.Is(err, ErrUnavailable) || len(got) > 0 {
		t.Errorf("another index: %v %v", got, err)
	}
	if got, err := read("c", 0); !errors.Is(err, broken) || len(asked) != 1 {
		t.Errorf("an error: %v %v %d", got, err, len(asked))
	}
}
