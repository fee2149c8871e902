package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/chat-recall/recall/shared"
)

// An archive is a folder for what rules archive instead of erasing (disposition = "archive"): a folder for each post,
// with post.json and the files.
type archive struct{ dir string }

// archivedPost is the content of post.json.
type archivedPost struct {
	RecallID   string          `json:"recall_id"`
	RecalledAt time.Time       `json:"recalled_at"`
	KeepUntil  time.Time       `json:"keep_until"`
	Posts      json.RawMessage `json:"posts"` // the rows of the post and of its old versions
	Files      json.RawMessage `json:"files"` // the rows of its files
}

func (a archive) folder(post string) string { return filepath.Join(a.dir, post) }

// keepPost archives a post before it is emptied. A post that is archived stays as it was then.
func (a archive) keepPost(ctx context.Context, tx *sql.Tx, d shared.Delivery) error {
	file := filepath.Join(a.folder(d.Message.ID), "post.json")
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	p := archivedPost{RecallID: d.RecallID, RecalledAt: d.RecalledAt.UTC(), KeepUntil: d.RecalledAt.Add(d.Retention).UTC()}
	var posts, files []byte
	err := tx.QueryRowContext(ctx, `SELECT
		coalesce((SELECT json_agg(to_json(p)) FROM posts p WHERE p.id = $1 OR p.originalid = $1), '[]'),
		coalesce((SELECT json_agg(to_json(f)) FROM fileinfo f WHERE f.postid = $1), '[]')`, d.Message.ID).Scan(&posts, &files)
	if err != nil {
		return err
	}
	p.Posts, p.Files = posts, files
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return errors.Join(writeFile(file, text), syncFolder(filepath.Dir(file)))
}

// keepFile copies a file of the file store, unless it is gone from there: then it was copied before.
func (a archive) keepFile(root *os.Root, f storedFile, d shared.Delivery) error {
	from, err := root.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer from.Close()
	name := filepath.Join(a.folder(d.Message.ID), f.id+filepath.Ext(f.path))
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("archive a file: %w", err)
	}
	to, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("archive a file: %w", err)
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Sync(), to.Close(), syncFolder(name))
}

// expire deletes what was kept for long enough.
func (a archive) expire(now time.Time) error {
	folders, err := os.ReadDir(a.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var errs error
	for _, f := range folders {
		text, err := os.ReadFile(filepath.Join(a.folder(f.Name()), "post.json"))
		var p archivedPost
		if err == nil {
			err = json.Unmarshal(text, &p)
		}
		if err == nil && now.After(p.KeepUntil) {
			err = os.RemoveAll(a.folder(f.Name()))
		}
		errs = errors.Join(errs, err)
	}
	return errors.Join(err, errs)
}

// writeFile replaces a file so that after a crash it has the old or the new content.
func writeFile(path string, content []byte) error {
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return errors.Join(os.Rename(temp, path), syncFolder(path))
}

// syncFolder makes a new name in the folder of a file durable.
func syncFolder(path string) error {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
