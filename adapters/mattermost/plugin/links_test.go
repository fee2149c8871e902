package main

import (
	"testing"

	"github.com/mattermost/mattermost/server/public/model"
)

// The server takes no preview from its memory for a post with the prop previewed_post.
func TestMessageWillBePosted(t *testing.T) {
	const id = "abcdefghijklmnopqrstuvwxyz"
	link := "see https://chat.example.org/team/pl/" + id + " there"
	p := &Plugin{}
	for name, test := range map[string]struct {
		message, prop, want string
	}{
		"without a link": {"hello", "", ""},
		"with a link":    {link, "", id},
		"with a prop":    {link, "other", "other"},
	} {
		post := &model.Post{Message: test.message}
		if test.prop != "" {
			post.AddProp(model.PostPropsPreviewedPost, test.prop)
		}
		changed, reason := p.MessageWillBePosted(nil, post)
		if reason != "" {
			t.Errorf("%s: rejected: %s", name, reason)
		}
		if changed == nil {
			changed = post
		}
		if got := changed.GetPreviewedPostProp(); got != test.want || changed.Message != test.message {
			t.Errorf("%s: prop %q, want %q", name, got, test.want)
		}
		changed, reason = p.MessageWillBeUpdated(nil, post, nil)
		if changed == nil || reason != "" { // that would reject the edit
			t.Fatalf("%s: edit rejected", name)
		}
		if got := changed.GetPreviewedPostProp(); got != test.want || changed.Message != test.message {
			t.Errorf("%s: prop %q after an edit, want %q", name, got, test.want)
		}
	}
}
