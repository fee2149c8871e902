package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/lib/pq"

	"github.com/chat-recall/recall/shared"
)

// history empties the post, removes its old versions, and deletes it. In this order: Mattermost puts the whole post
// into the event post_deleted. A root of a thread with replies stays, with a placeholder: to delete it would take the
// replies along.
func (s *steps) history(ctx context.Context, d shared.Delivery) (shared.Outcome, error) {
	p, err := s.empty(ctx, d)
	if errors.Is(err, sql.ErrNoRows) {
		return shared.OutcomeNothingToDo, nil
	}
	if err != nil {
		return "", err
	}
	switch {
	case p.deleted:
		return shared.OutcomeDone, s.restoreReplies(ctx, d)
	case p.archived: // there the server changes nothing
		_, err := s.db.ExecContext(ctx, `UPDATE posts SET deleteat = CASE WHEN $3 THEN 0 ELSE $2::bigint END, updateat = $2
			WHERE id = $1`, d.Message.ID, time.Now().UnixMilli(), p.kept)
		return shared.OutcomeDone, err
	case p.kept:
		return shared.OutcomeDone, s.update(ctx, d.Message.ID, unchanged)
	}
	if aerr := s.api.DeletePost(d.Message.ID); aerr != nil {
		return "", aerr
	}
	return shared.OutcomeDone, s.restoreReplies(ctx, d)
}

// lostReplies are the replies r to a post p that DeletePost took along: those that came after empty had counted them.
// The server writes the name of the plugin to all replies, also to those that others had deleted. It is $2.
const lostReplies = `r.rootid = p.id AND r.deleteat <> 0 AND coalesce(r.originalid, '') = ''
	AND (r.message <> '' OR r.props->>'recalled' IS NULL) AND r.props->>'deleteBy' = $2 AND p.props->>'deleteBy' = $2
	AND NOT coalesce(p.props->'deleted_replies' ? r.id, true)`

// restoreReplies restores lost replies together with their root, which gets a placeholder as if they had come before.
func (s *steps) restoreReplies(ctx context.Context, d shared.Delivery) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	now := time.Now().UnixMilli()
	result, err := tx.ExecContext(ctx, `UPDATE posts r SET deleteat = 0, updateat = $3, props = r.props - 'deleteBy'
		FROM posts p WHERE p.id = $1 AND `+lostReplies, d.Message.ID, pluginID, now)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); n == 0 || err != nil {
		return err
	}
	placeholder, err := s.placeholder(ctx, d)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE posts SET deleteat = 0, updateat = $3, message = $2, type = '',
		props = props - 'deleteBy' - 'deleted_replies' WHERE id = $1`, d.Message.ID, placeholder, now)
	if err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	return s.update(ctx, d.Message.ID, unchanged)
}

// emptied is a post whose content is gone.
type emptied struct {
	deleted  bool // it was deleted before
	kept     bool // it is the root of a thread with replies
	archived bool // its channel is
}

// empty removes the content of a post and its old versions from the database. It gives the post the files that an
// edit added, by which attachments finds them. If there is no such post, the error is sql.ErrNoRows.
func (s *steps) empty(ctx context.Context, d shared.Delivery) (p emptied, err error) {
	id, sender := d.Message.ID, d.Message.Sender
	placeholder, err := s.placeholder(ctx, d)
	if err != nil {
		return p, err
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return p, err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	var created int64
	var replies int
	err = tx.QueryRowContext(ctx, `SELECT p.createat, p.deleteat <> 0, coalesce(c.deleteat, 0) <> 0,
			(SELECT count(*) FROM posts r WHERE r.rootid = p.id AND r.deleteat = 0 AND r.id <> p.id)
		FROM posts p LEFT JOIN channels c ON c.id = p.channelid WHERE p.id = $1 FOR UPDATE OF p`, id).
		Scan(&created, &p.deleted, &p.archived, &replies)
	if err != nil {
		return p, err
	}
	p.kept = replies > 0 && !p.deleted
	text, kind := "", "type"
	if p.kept {
		text, kind = placeholder, "''" // a type of a plugin would be shown by it
	}
	_, err = tx.ExecContext(ctx, `UPDATE fileinfo SET postid = $1 WHERE coalesce(postid, '') = '' AND creatorid = $2
		AND id IN (SELECT jsonb_array_elements_text(v.fileids::jsonb) FROM posts v WHERE (v.id = $1 OR v.originalid = $1)
		AND v.fileids LIKE '["%')`, id, sender)
	if err != nil {
		return p, err
	}
	if d.Disposition == shared.DispositionArchive {
		if err := s.archive.keepPost(ctx, tx, d); err != nil {
			return p, err
		}
	}
	links, err := s.previewedLinks(ctx, tx, id, created)
	if err != nil {
		return p, err
	}
	for _, change := range []struct {
		sql  string
		args []any
	}{
		{`UPDATE posts p SET message = $2, hashtags = '', filenames = '[]', fileids = '[]', ispinned = false,
			hasreactions = false, type = ` + kind + `,
			props = jsonb_strip_nulls(jsonb_build_object('recalled', true, 'deleteBy', p.props->'deleteBy', 'recalled_files',
				CASE WHEN EXISTS (SELECT FROM fileinfo f WHERE f.postid = $1) THEN true::text ELSE p.props->>'recalled_files' END,
				'deleted_replies', CASE WHEN $3 THEN NULL WHEN p.deleteat <> 0 THEN p.props->'deleted_replies' ELSE
					(SELECT coalesce(jsonb_agg(r.id), '[]') FROM posts r WHERE r.rootid = $1 AND r.deleteat <> 0
						AND coalesce(r.originalid, '') = '') END))
			WHERE p.id = $1`, []any{id, text, p.kept}},
		{`DELETE FROM posts WHERE originalid = $1`, []any{id}},
		{`DELETE FROM reactions WHERE postid = $1`, []any{id}},
		{`DELETE FROM linkmetadata WHERE hash = ANY($1)`, []any{pq.Array(links)}},
	} {
		if _, err := tx.ExecContext(ctx, change.sql, change.args...); err != nil {
			return p, err
		}
	}
	for _, copies := range laterCopies {
		if err := copies.remove(ctx, tx, id); err != nil {
			return p, err
		}
	}
	return p, tx.Commit()
}

// copies is a table in which a version of Mattermost keeps texts of posts, and its column of their ids.
type copies struct{ table, post string }

// laterCopies are tables that servers after 6.7.2 have: translations, and messages that vanish once they are read.
var laterCopies = []copies{{"translations", "objectid"}, {"temporaryposts", "postid"}}

// remove removes the copies of a post, if the server has the table.
func (c copies) remove(ctx context.Context, tx *sql.Tx, post string) error {
	var exists bool
	err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM information_schema.columns
		WHERE table_schema = ANY(current_schemas(false)) AND table_name = $1 AND column_name = $2)`, c.table, c.post).
		Scan(&exists)
	if err != nil || !exists {
		return err
	}
	_, err = tx.ExecContext(ctx, "DELETE FROM "+c.table+" WHERE "+c.post+" = $1", post)
	return err
}

// previewedLinks are the rows of the link preview cache, which has whole URLs, that a post and its old versions made.
func (s *steps) previewedLinks(ctx context.Context, tx *sql.Tx, id string, created int64) (hashes []int64, err error) {
	c, err := s.config()
	if err != nil {
		return nil, err
	}
	var texts, props string // of all versions
	err = tx.QueryRowContext(ctx, `SELECT coalesce(string_agg(message, E'\n\n'), ''),
		coalesce(string_agg(props::text, ' '), '') FROM posts WHERE (id = $1 OR originalid = $1)
		AND concat(message, ' ', props) ~ '[:/]/|[^\s][.][^\s]|[(<]'`, id).
		Scan(&texts, &props)
	if err != nil || texts+props == "" {
		return nil, err
	}
	made := map[string]bool{}
	for _, link := range links(texts) {
		made[resolve(value(c.ServiceSettings.SiteURL), link)] = true
	}
	text := texts + " " + props // attachments of integrations have links in their props
	hour := created - created%time.Hour.Milliseconds()
	rows, err := tx.QueryContext(ctx, `SELECT hash, url FROM linkmetadata WHERE "timestamp" = $1`, hour)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var hash int64
		var link string
		if err := rows.Scan(&hash, &link); err != nil {
			return nil, err
		}
		if made[link] || contains(text, link) {
			hashes = append(hashes, hash)
		}
	}
	return hashes, rows.Err()
}

// contains reports whether a text contains a link, which the server has completed and escaped.
func contains(text, link string) bool {
	_, bare, _ := strings.Cut(link, "://")
	plain, err := url.PathUnescape(bare)
	return strings.Contains(text, bare) || err == nil && strings.Contains(text, plain)
}

// historyIsGone proves that the post is gone. A call of the plugin API does not: it reports success when the server
// has died under it.
func (s *steps) historyIsGone(ctx context.Context, d shared.Delivery) error {
	var text, files string
	var recalled, deleted bool
	var versions, lost int
	err := s.db.QueryRowContext(ctx, `SELECT message, coalesce(fileids, ''), deleteat <> 0, props->>'recalled' IS NOT NULL,
			(SELECT count(*) FROM posts v WHERE v.originalid = p.id), (SELECT count(*) FROM posts r WHERE `+lostReplies+`)
			FROM posts p WHERE p.id = $1`, d.Message.ID, pluginID).
		Scan(&text, &files, &deleted, &recalled, &versions, &lost)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	placeholder, err := s.placeholder(ctx, d)
	if err != nil {
		return err
	}
	switch {
	case versions > 0:
		return errors.New("old versions of the post are still in the database")
	case !recalled || text != "" && text != placeholder || files != "" && files != "[]":
		return errors.New("the content of the post is still in the database")
	case text == "" && !deleted:
		return errors.New("the Mattermost server did not delete the post")
	case lost > 0:
		return fmt.Errorf("%d replies were deleted with the post", lost)
	}
	return nil
}
