package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// deletions makes recalls of the posts that users deleted by Mattermost's own means, where the rules permit it, and
// lists the others.
type deletions struct {
	adapter *adapter.Adapter
	list    *bypassLog
	log     hclog.Logger
}

func (d *deletions) judge(ctx context.Context, posts []post) error {
	for _, p := range posts {
		if err := d.judgeOne(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// judgeOne judges a deletion by the time at which it was made.
func (d *deletions) judgeOne(ctx context.Context, p post) error {
	b := bypass{PostID: p.id, ChannelID: p.channel, DeletedBy: p.deletedBy, DeletedAt: time.UnixMilli(p.deleted).UTC()}
	if p.deletedBy != "" {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		results, err := d.adapter.Recall(ctx, p.deletedBy, adapter.Ask{
			MessageIDs: []string{p.id}, RecallID: "mattermost-delete-" + p.id, RequestedAt: time.UnixMilli(p.deleted),
		})
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

// syncFolder makes a new name in the folder of a file durable.
func syncFolder(path string) error {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
