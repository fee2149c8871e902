package main

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/mattermost/mattermost/server/public/model"
	"github.com/mattermost/mattermost/server/public/plugin"
	"github.com/mattermost/mattermost/server/public/shared/markdown"
)

// MessageWillBePosted makes the server build the preview of a linked post anew. It keeps previews in memory for an
// hour, text and all, and would show a recalled post where its link is posted again. It takes no preview from there
// for a post that says which post it previews.
func (p *Plugin) MessageWillBePosted(_ *plugin.Context, post *model.Post) (changed *model.Post, reason string) {
	defer recoverPanic(p.log, "MessageWillBePosted")
	return p.withoutPreviewFromMemory(post), "" // nil: the post stays as it is
}

// MessageWillBeUpdated does the same for edits.
func (p *Plugin) MessageWillBeUpdated(_ *plugin.Context, post, _ *model.Post) (changed *model.Post, reason string) {
	changed = post // nil would refuse the edit
	defer recoverPanic(p.log, "MessageWillBeUpdated")
	if other := p.withoutPreviewFromMemory(post); other != nil {
		changed = other
	}
	return changed, ""
}

// withoutPreviewFromMemory returns a post with the prop that keeps the server from its memory, or nil if the post has
// it or previews no post. Without need it is not set: the server would fetch the preview of another link at each
// view.
func (p *Plugin) withoutPreviewFromMemory(post *model.Post) *model.Post {
	if !strings.Contains(post.Message, "/pl/") || post.GetPreviewedPostProp() != "" {
		return nil
	}
	site := ""
	if s := p.site.Load(); s != nil {
		site = *s
	}
	for _, link := range firstLinks(post.Message) {
		if id := linkedPost(site, link); id != "" {
			changed := post.Clone()
			changed.AddProp(model.PostPropsPreviewedPost, id)
			return changed
		}
	}
	return nil
}

// firstLinks are the links of which the server previews the first: a bare link, or in some versions one of any kind.
func firstLinks(message string) []string {
	var bare, first string
	markdown.Inspect(message, func(part any) bool {
		link := ""
		switch l := part.(type) {
		case *markdown.Autolink:
			if link = l.Destination(); bare == "" {
				bare = link
			}
		case *markdown.InlineLink:
			link = l.Destination()
		case *markdown.ReferenceLink:
			link = l.Destination()
		}
		if first == "" {
			first = link
		}
		return true
	})
	return []string{bare, first}
}

// links are the links and images of a message, without escapes.
func links(message string) (all []string) {
	markdown.Inspect(message, func(part any) bool {
		if l, ok := part.(interface{ Destination() string }); ok {
			all = append(all, l.Destination())
		}
		return true
	})
	return all
}

// resolve completes a link as the server does.
func resolve(site, link string) string {
	if base, err := url.Parse(site); err == nil {
		if absolute, err := base.Parse(link); err == nil {
			return absolute.String()
		}
	}
	return link
}

var permalink = regexp.MustCompile(`/pl/([a-z0-9]{26})$`)

// linkedPost is the id of the post that a link to this server leads to. A site that is not known may be this one.
func linkedPost(site, link string) string {
	link = resolve(site, link)
	m := permalink.FindStringSubmatch(link)
	if m == nil {
		return ""
	}
	// The server takes its address for a regular expression, in which a dot is any letter.
	like, err := regexp.Compile("^(?:" + site + ")")
	if strings.HasPrefix(link, site) || err == nil && like.MatchString(link) {
		return m[1]
	}
	return ""
}
