package main

import (
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/mattermost/mattermost/server/public/model"
)

// The server takes no preview from its memory for a post with the prop previewed_post.
func TestMessageWillBePosted(t *testing.T) {
	const (
		id    = "abcdefghijklmnopqrstuvwxyz"
		site  = "https://chat.example.org/sub"
		link  = site + "/team/pl/" + id
		other = "https://example.com/"
	)
	known, unknown := &Plugin{log: hclog.NewNullLogger()}, &Plugin{log: hclog.NewNullLogger()}
	address := site
	known.site.Store(&address)
	for name, test := range map[string]struct {
		message, prop, want string
		plugin              *Plugin
	}{
		"no link":                        {"hello /pl/", "", "", known},
		"a link":                         {"see " + link + " there", "", id, known},
		"in brackets":                    {"see <" + link + ">", "", id, known},
		"of Markdown":                    {"[see](" + link + ")", "", id, known},
		"relative":                       {"[see](/sub/team/pl/" + id + ")", "", id, known},
		"a prop that is there":           {link, "other", "other", known},
		"a link of another kind first":   {"[x](" + other + ") " + link, "", id, known},
		"another link first":             {other + " " + link, "", "", known},
		"another link first, as code":    {"`" + other + "` " + link, "", id, known},
		"of an address like it":          {"https://chat-example.org/sub/t/pl/" + id, "", id, known},
		"of another server":              {"https://chat.example.com/team/pl/" + id, "", "", known},
		"in a code block":                {"```\n" + link + "\n```", "", "", known},
		"of a server that is not known":  {link, "", id, unknown},
		"not the whole path of the link": {link + "/x", "", "", known},
	} {
		post := &model.Post{Message: test.message}
		if test.prop != "" {
			post.AddProp(model.PostPropsPreviewedPost, test.prop)
		}
		changed, reason := test.plugin.MessageWillBePosted(nil, post)
		if reason != "" {
			t.Errorf("%s: rejected: %s", name, reason)
		}
		if changed == nil {
			changed = post
		}
		if got := changed.GetPreviewedPostProp(); got != test.want || changed.Message != test.message {
			t.Errorf("%s: prop %q, want %q", name, got, test.want)
		}
		changed, reason = test.plugin.MessageWillBeUpdated(nil, post, nil)
		if changed == nil || reason != "" { // that would refuse the edit
			t.Fatalf("%s: edit refused", name)
		}
		if got := changed.GetPreviewedPostProp(); got != test.want || changed.Message != test.message {
			t.Errorf("%s: prop %q after an edit, want %q", name, got, test.want)
		}
	}
}
