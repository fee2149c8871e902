package main

import (
	"regexp"

	"github.com/mattermost/mattermost/server/public/model"
	"github.com/mattermost/mattermost/server/public/plugin"
)

var permalink = regexp.MustCompile(`/pl/([a-z0-9]{26})`)

// MessageWillBePosted makes the server build the preview of a linked post anew. It keeps previews in memory for an
// hour, text and all, and would show a recalled post where its link is posted again. It takes no preview from there
// for a post that says which post it previews.
func (p *Plugin) MessageWillBePosted(_ *plugin.Context, post *model.Post) (*model.Post, string) {
	if !previewsFromMemory(post) {
		return nil, "" // as it is
	}
	return withoutPreviewFromMemory(post), ""
}

// MessageWillBeUpdated does the same for edits.
func (p *Plugin) MessageWillBeUpdated(_ *plugin.Context, post, _ *model.Post) (*model.Post, string) {
	if !previewsFromMemory(post) {
		return post, ""
	}
	return withoutPreviewFromMemory(post), ""
}

func previewsFromMemory(post *model.Post) bool {
	return post.GetPreviewedPostProp() == "" && permalink.MatchString(post.Message)
}

func withoutPreviewFromMemory(post *model.Post) *model.Post {
	changed := post.Clone()
	changed.AddProp(model.PostPropsPreviewedPost, permalink.FindStringSubmatch(post.Message)[1])
	return changed
}
