package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// deletions makes recalls of the posts that users deleted by Mattermost's own means, where the rules permit it, and
// lists the others.
type deletions struct {
	recall  shared.Recall
	adapter *adapter.Adapter
	list    *bypassLog
	log     hclog.Logger
}

func (d *deletions) judge(ctx context.Context, posts []post) error {
	gone, err := recalledPosts(ctx, d.recall, postIDs(posts))
	if err != nil {
		return err
	}
	for _, p := range posts {
		if gone[p.id] != "" { // such as a root that stayed, with its thread
			continue
		}
		if err := d.judgeOne(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// recalledPosts are the posts that were recalled, and the ids of their recalls.
func recalledPosts(ctx context.Context, recall shared.Recall, ids []string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	gone := map[string]string{}
	for some := range slices.Chunk(ids, shared.MaxStatusIDs) {
		states, err := recall.Status(ctx, tenant, some)
		if err != nil {
			return nil, err
		}
		for _, s := range states {
			if s.RecallID != "" {
				gone[s.MessageID] = s.RecallID
			}
		}
	}
	return gone, nil
}

// judgeOne judges a deletion by the time at which it was made.
func (d *deletions) judgeOne(ctx context.Context, p post) error {
	b := bypass{PostID: p.id, ChannelID: p.channel, DeletedBy: p.deletedBy, DeletedAt: time.UnixMilli(p.deleted).UTC()}
	if p.deletedBy != "" {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		ask := adapter.Ask{MessageIDs: []string{p.id}, RecallID: "mattermost-delete-" + p.id,
			RequestedAt: time.UnixMilli(p.deleted)}
		results, err := d.adapter.Recall(ctx, p.deletedBy, ask)
		if err == nil && results[0].Code == shared.CodeRecallIDUsed { // a user took it, to keep the post from being recalled
			ask.RecallID = ""
			results, err = d.adapter.Recall(ctx, p.deletedBy, ask)
		}
		switch {
		case errors.Is(err, shared.ErrInvalid): // asking again would be answered alike
			b.Problem = err.Error()
		case err != nil:
			return err
		case results[0].Status == shared.StatusRecalled, results[0].Status == shared.StatusAlreadyRecalled:
			return nil
		default:
			b.Result = results[0]
			b.Result.Text = nil
		}
	} else {
		b.Problem = "Mattermost does not say who deleted it"
	}
	d.log.Warn("a post was deleted against the rules; Mattermost hides it and keeps its text and files",
		"post_id", p.id, "deleted_by", p.deletedBy, "code", b.Result.Code, "status", b.Result.Status, "problem", b.Problem)
	return d.list.add(b)
}
