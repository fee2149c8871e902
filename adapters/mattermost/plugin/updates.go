package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/chat-recall/recall/shared"
)

// updates empties recalled posts again. The server writes whole posts: one that it had read for an edit, or that was
// being pinned or sent anew, before the recall emptied it, comes back with its text, and so does its old version.
type updates struct {
	recall shared.Recall
	steps  *steps
}

func (u *updates) again(ctx context.Context, posts []post) error {
	ids := make([]string, len(posts))
	for i, p := range posts {
		ids[i] = cmp.Or(p.original, p.id)
	}
	gone, err := recalledPosts(ctx, u.recall, ids)
	if err != nil {
		return err
	}
	var errs error
	for post, recallID := range gone {
		if err := u.againOne(ctx, post, recallID); err != nil {
			errs = errors.Join(errs, fmt.Errorf("empty the recalled post %s again: %w", post, err))
		}
	}
	return errs
}

func (u *updates) againOne(ctx context.Context, post, recallID string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	entries, err := shared.ReadLedger(ctx, u.recall, tenant, recallID)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Event.Message.ID != post {
			continue
		}
		d := shared.Delivery{Event: e.Event, Step: shared.StepHistory, Attempt: 1}
		if u.steps.historyIsGone(ctx, d) == nil {
			return nil
		}
		u.steps.log.Warn("the server wrote a recalled post back; emptying it again", "post_id", post)
		if _, err := u.steps.history(ctx, d); err != nil {
			return err
		}
		if err := u.steps.historyIsGone(ctx, d); err != nil {
			return err
		}
		_, err := u.steps.previews(ctx, d)
		return err
	}
	return nil
}
