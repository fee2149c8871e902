package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/lib/pq"

	"github.com/chat-recall/recall/shared"
)

// A post is what Recall has to know of a row of the table posts. It comes from SQL, since the plugin API shows no
// deleted posts.
type post struct {
	id, channel, channelType, user, kind string
	original                             string // of an old version: the id of the post
	files                                []string
	mime                                 string // of the first file
	created, updated, deleted            int64  // Unix ms; deleted 0: it is not
	deletedBy                            string // user or plugin; empty: not known
}

// selectRows begins every query for posts. Old versions of edited posts are rows of posts too, with an originalid.
const selectRows = `SELECT p.id, coalesce(p.originalid, ''), p.channelid, coalesce(c.type::text, ''), p.userid,
		coalesce(p.type, ''), coalesce(p.fileids, ''), coalesce(f.mimetype, ''), p.createat, p.updateat, p.deleteat,
		coalesce(p.props->>'deleteBy', '')
	FROM posts p LEFT JOIN channels c ON c.id = p.channelid
	LEFT JOIN fileinfo f ON f.id = CASE WHEN p.fileids LIKE '["%' THEN p.fileids::jsonb->>0 END
	WHERE `

// selectPosts begins those that leave old versions out.
const selectPosts = selectRows + `coalesce(p.originalid, '') = '' `

// queryPosts returns the posts of a query that begins with selectRows.
func queryPosts(ctx context.Context, db *sql.DB, query string, args ...any) ([]post, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var posts []post
	for rows.Next() {
		var p post
		var files string
		if err := rows.Scan(&p.id, &p.original, &p.channel, &p.channelType, &p.user, &p.kind, &files, &p.mime, &p.created,
			&p.updated, &p.deleted, &p.deletedBy); err != nil {
			return nil, err
		}
		if p.files, err = fileIDs(files); err != nil {
			return nil, fmt.Errorf("files of post %s: %w", p.id, err)
		}
		posts = append(posts, p)
	}
	return posts, rows.Err()
}

// fileIDs reads the column fileids: a JSON array of ids, or nothing.
func fileIDs(column string) (ids []string, err error) {
	if column == "" {
		return nil, nil
	}
	return ids, json.Unmarshal([]byte(column), &ids)
}

// message returns the facts of a post.
func (p post) message() shared.Message {
	m := shared.Message{
		ID: p.id, Conversation: conversation(p.channel, p.channelType), Sender: p.user, Type: p.messageType(),
		SentAt: time.UnixMilli(p.created),
	}
	for _, id := range p.files {
		m.Attachments = append(m.Attachments, shared.Attachment{Key: id})
	}
	return m
}

// conversation maps a channel: D is between two users, or of one with themselves; G, P and O are groups.
func conversation(channel, channelType string) shared.Conversation {
	if channelType == "D" {
		return shared.Conversation{Type: shared.ConversationSingle, ID: channel}
	}
	return shared.Conversation{Type: shared.ConversationGroup, ID: channel}
}

// messageType maps the type of a post. What the server says itself cannot be recalled: a command.
func (p post) messageType() shared.MessageType {
	switch {
	case strings.HasPrefix(p.kind, "system_"):
		return shared.TypeCommand
	case strings.HasPrefix(p.kind, "custom_"):
		return shared.TypeCustom
	case len(p.files) == 0:
		return shared.TypeText
	case len(p.files) > 1:
		return shared.TypeFile
	}
	switch major, _, _ := strings.Cut(p.mime, "/"); major {
	case "image":
		return shared.TypeImage
	case "audio":
		return shared.TypeAudio
	case "video":
		return shared.TypeVideo
	}
	return shared.TypeFile
}

// messages returns the facts of posts.
func messages(posts []post) []shared.Message {
	facts := make([]shared.Message, len(posts))
	for i, p := range posts {
		facts[i] = p.message()
	}
	return facts
}

func postIDs(posts []post) (ids []string) {
	for _, p := range posts {
		ids = append(ids, p.id)
	}
	return ids
}

// postsByID looks posts up, also deleted ones.
func postsByID(ctx context.Context, db *sql.DB, ids []string) ([]post, error) {
	return queryPosts(ctx, db, selectPosts+`AND p.id = ANY($1)`, pq.Array(ids))
}
