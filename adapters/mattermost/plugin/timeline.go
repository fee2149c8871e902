package main

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host/adapter"
)

const (
	pollEvery = 2 * time.Second
	pollPage  = 500

	// overlap is how far a pass goes back: a post gets its time before it is committed.
	overlap = 10 * time.Second
)

// A timeline reads the posts that were created, updated or deleted after a cursor: what happened while the plugin was
// disabled comes in its first pass. It begins when the plugin is installed; the facts of older posts are looked up
// when somebody recalls them.
type timeline struct {
	db     *sql.DB
	time   func(post) int64
	column string // of time
	from   string // selectPosts or selectRows and a condition
	where  string
	args   []any // of where, from $5

	seen map[string]int64 // posts of the last overlap that were acted on, and their times
}

// created is the timeline of new posts.
func created(db *sql.DB) *timeline {
	return &timeline{db: db, seen: map[string]int64{}, time: func(p post) int64 { return p.created },
		column: "p.createat", from: selectPosts, where: "true"}
}

// updated is the timeline of posts that were written anew, and of old versions, which are not empty.
func updated(db *sql.DB) *timeline {
	return &timeline{db: db, seen: map[string]int64{}, time: func(p post) int64 { return p.updated }, column: "p.updateat",
		from:  selectRows + "true ",
		where: `p.updateat > p.createat AND (p.message <> '' OR coalesce(p.fileids, '') NOT IN ('', '[]'))`}
}

// deleted is the timeline of posts that were deleted by others than Recall. What the props of a post say of a recall is
// not looked at: a user can set them.
func deleted(db *sql.DB) *timeline {
	return &timeline{db: db, seen: map[string]int64{}, time: func(p post) int64 { return p.deleted }, column: "p.deleteat",
		from: selectPosts, args: []any{pluginID},
		where: `p.deleteat > 0 AND coalesce(p.props->>'deleteBy', '') <> $5`}
}

// read is the Read of an adapter.Follower.
func (t *timeline) read(ctx context.Context, after string) (adapter.Page[post], error) {
	if after == "" {
		return adapter.Page[post]{Next: position{time.Now().UnixMilli(), ""}.String()}, nil
	}
	from, err := parsePosition(after)
	if err != nil {
		return adapter.Page[post]{}, err
	}
	back := from.at - overlap.Milliseconds()
	order := fmt.Sprintf("(%s, p.id)", t.column)
	within := t.from + "AND " + order + " > ($1, $2) AND " + order + " <= ($3, $4) AND " + t.where
	args := func(p, to position) []any { return append([]any{p.at, p.id, to.at, to.id}, t.args...) }
	late, err := queryPosts(ctx, t.db, within, args(position{at: back}, from)...)
	if err != nil {
		return adapter.Page[post]{}, err
	}
	end := position{1 << 62, ""}
	fresh, err := queryPosts(ctx, t.db, within+fmt.Sprintf(" ORDER BY %s, p.id LIMIT %d", t.column, pollPage), args(from,
		end)...)
	if err != nil {
		return adapter.Page[post]{}, err
	}
	page := adapter.Page[post]{Next: after, More: len(fresh) == pollPage}
	for _, p := range append(late, fresh...) {
		if t.seen[p.id] != t.time(p) {
			page.Items = append(page.Items, p)
		}
	}
	if len(fresh) > 0 {
		last := fresh[len(fresh)-1]
		page.Next = position{t.time(last), last.id}.String()
	}
	maps.DeleteFunc(t.seen, func(_ string, at int64) bool { return at < back })
	return page, nil
}

// follow returns a Follower that acts on the posts of the timeline, each once unless do fails or the process ends.
func (t *timeline) follow(what, cursor string, log hclog.Logger, do func(context.Context, []post) error,
) *adapter.Follower[post] {
	return &adapter.Follower[post]{What: what, Read: t.read, Cursor: cursor, Every: pollEvery, Log: log,
		Do: func(ctx context.Context, posts []post) error {
			if err := do(ctx, posts); err != nil {
				return err
			}
			for _, p := range posts {
				t.seen[p.id] = t.time(p)
			}
			return nil
		}}
}

// position is a place on a timeline.
type position struct {
	at int64 // Unix ms
	id string
}

func (p position) String() string { return strconv.FormatInt(p.at, 10) + ":" + p.id }

func parsePosition(cursor string) (position, error) {
	at, id, ok := strings.Cut(cursor, ":")
	ms, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil {
		return position{}, fmt.Errorf("cursor %q is damaged: delete its file to begin now, without what was missed", cursor)
	}
	return position{ms, id}, nil
}
