package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mattermost/mattermost/server/public/model"

	"github.com/chat-recall/recall/shared"
)

// A storedFile is a row of fileinfo with its files in the file store.
type storedFile struct{ id, path, preview, thumbnail string }

// attachments deletes the files of the post from the disk, and their rows, which keep the text of documents, a small
// picture, and the names. The files are those that the post had when history emptied it. Of files in an object store,
// only the rows go, so that nobody can download them.
func (s *steps) attachments(ctx context.Context, d shared.Delivery) (shared.Outcome, error) {
	files, err := s.files(ctx, d.Message.ID)
	if err != nil {
		return "", err
	}
	if len(files) == 0 {
		return shared.OutcomeNothingToDo, nil
	}
	c, err := s.config()
	if err != nil {
		return "", err
	}
	outcome := shared.OutcomeDone
	if value(c.FileSettings.DriverName) != model.ImageDriverLocal {
		outcome = shared.OutcomeUnsupported
		s.log.Warn("files of a recalled post stay in the object store: nobody can download them through Mattermost, "+
			"delete the objects whose path has one of the ids", "post_id", d.Message.ID, "file_ids", fileNames(files))
	} else if err := s.removeFiles(value(c.FileSettings.Directory), files, d); err != nil {
		return "", err
	}
	_, err = s.db.ExecContext(ctx, `DELETE FROM fileinfo WHERE postid = $1`, d.Message.ID)
	return outcome, err
}

// fileNames are the ids of files, by which Mattermost names their folders.
func fileNames(files []storedFile) (ids []string) {
	for _, f := range files {
		ids = append(ids, f.id)
	}
	return ids
}

func (s *steps) files(ctx context.Context, post string) ([]storedFile, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT id, coalesce(path, ''), coalesce(previewpath, ''),
		coalesce(thumbnailpath, '')
		FROM fileinfo WHERE postid = $1`, post)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var files []storedFile
	for rows.Next() {
		var f storedFile
		if err := rows.Scan(&f.id, &f.path, &f.preview, &f.thumbnail); err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, rows.Err()
}

// removeFiles deletes files, or moves the original ones to the archive.
func (s *steps) removeFiles(directory string, files []storedFile, d shared.Delivery) error {
	root, err := os.OpenRoot(directory)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, f := range files {
		if d.Disposition == shared.DispositionArchive && f.path != "" {
			if err := s.archive.keepFile(root, f, d); err != nil {
				return err
			}
		}
		for _, name := range []string{f.path, f.preview, f.thumbnail} {
			if name == "" {
				continue
			}
			if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if folder := filepath.Dir(name); strings.HasSuffix(folder, f.id) {
				_ = root.Remove(folder) // its own, once it is empty
			}
		}
	}
	return nil
}

func (s *steps) attachmentsAreGone(ctx context.Context, d shared.Delivery) error {
	var left int
	err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM fileinfo WHERE postid = $1`, d.Message.ID).Scan(&left)
	if err == nil && left > 0 {
		return fmt.Errorf("%d files of the post are still in the database", left)
	}
	return err
}

// caches makes the server forget the names and the small pictures of files, which it keeps in memory for half an hour
// for whoever asks for the files of the post; and of an archived channel, where history changes the database alone,
// when the last post was changed: it tells a client that has an older state that nothing is new.
func (s *steps) caches(ctx context.Context, d shared.Delivery) (shared.Outcome, error) {
	cached := len(d.Message.Attachments) > 0
	err := s.db.QueryRowContext(ctx, `SELECT $2 OR p.props->>'recalled_files' IS NOT NULL OR coalesce(c.deleteat, 0) <> 0
		FROM posts p LEFT JOIN channels c ON c.id = p.channelid WHERE p.id = $1`, d.Message.ID, cached).Scan(&cached)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", err
	}
	if !cached {
		return shared.OutcomeNothingToDo, nil
	}
	return shared.OutcomeDone, s.admin.do(ctx, "POST", "/api/v4/caches/invalidate", nil)
}
