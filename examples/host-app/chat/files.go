package chat

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/chat-recall/recall/shared"
)

// maxFileBytes is the largest attachment this server takes.
const maxFileBytes = 8 << 20

var (
	errNoFile   = refuse(http.StatusNotFound, "there is no such file")
	errFileGone = refuse(http.StatusGone, "the file was deleted: the message it belonged to was recalled")
)

// Files keeps attachments: their bytes in a folder, under names that come from a hash and never from a user, and what
// they belong to in the store.
type Files struct {
	dir   string
	store *Store
	mu    sync.Mutex // a file and its row change together
}

// FileInfo is what the store knows of an attachment.
type FileInfo struct {
	Name, Owner  string
	Conversation shared.Conversation
	Gone         bool // deleted by a recall
}

func openFiles(dir string, store *Store) (*Files, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the attachment folder %s: %w", dir, err)
	}
	f := &Files{dir: dir, store: store}
	if store.node != "" { // another server may be about to record its file
		return f, nil
	}
	return f, f.sweep()
}

// Dir is the folder of all attachments.
func (f *Files) Dir() string { return f.dir }

// Path is where the bytes of a key are.
func (f *Files) Path(key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(f.dir, hex.EncodeToString(sum[:]))
}

// sweep removes what a crash left: files without a row.
func (f *Files) sweep() error {
	rows, err := f.store.read.Query("SELECT key FROM files WHERE gone = 0")
	if err != nil {
		return fmt.Errorf("read the attachments: %w", err)
	}
	keys, err := scanAll(rows, func(r *sql.Rows) (k string, err error) { return k, r.Scan(&k) })
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(keys))
	for _, k := range keys {
		known[f.Path(k)] = true
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return fmt.Errorf("read the attachment folder: %w", err)
	}
	for _, e := range entries {
		if path := filepath.Join(f.dir, e.Name()); !known[path] {
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("remove a stray attachment: %w", err)
			}
		}
	}
	return nil
}

// Put stores a file under a key. It returns once the file is on disk.
func (f *Files) Put(ctx context.Context, key string, info FileInfo, content io.Reader) (err error) {
	tmp, err := os.CreateTemp(f.dir, "upload-*")
	if err != nil {
		return fmt.Errorf("store an attachment: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreNotExist(os.Remove(tmp.Name())))
		}
	}()
	n, err := io.Copy(tmp, io.LimitReader(content, maxFileBytes+1))
	if err == nil && n > maxFileBytes {
		err = shared.Invalidf("body", "a file has at most %d bytes", maxFileBytes)
	}
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := os.Rename(tmp.Name(), f.Path(key)); err != nil {
		return fmt.Errorf("store an attachment: %w", err)
	}
	if err := syncDir(f.dir); err != nil {
		return err
	}
	return f.store.apply(ctx, func(tx *writeTx) error {
		return tx.exec(`INSERT INTO files (key, name, owner, conversation) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET name = excluded.name, gone = 0`, key, info.Name, info.Owner, roomKey(info.Conversation))
	})
}

// Open opens a file; the caller has checked who asks.
func (f *Files) Open(key string) (*os.File, error) {
	file, err := os.Open(f.Path(key))
	if errors.Is(err, os.ErrNotExist) {
		return nil, errFileGone // its row was there a moment ago
	}
	return file, err
}

// Info reads what is known of a key, and the messages that use it, recalled ones too, also when the file is gone.
func (f *Files) Info(ctx context.Context, key string) (info FileInfo, usedBy []string, err error) {
	rows, err := f.store.read.QueryContext(ctx, "SELECT id FROM uses WHERE key = ?", key)
	if err != nil {
		return info, nil, fmt.Errorf("find the messages that use an attachment: %w", err)
	}
	if usedBy, err = scanAll(rows, func(r *sql.Rows) (id string, err error) { return id, r.Scan(&id) }); err != nil {
		return info, nil, err
	}
	var room string
	err = f.store.read.QueryRowContext(ctx, "SELECT name, owner, conversation, gone FROM files WHERE key = ?", key).
		Scan(&info.Name, &info.Owner, &room, &info.Gone)
	if errors.Is(err, sql.ErrNoRows) {
		return info, nil, errNoFile
	}
	if err != nil {
		return info, nil, fmt.Errorf("find an attachment: %w", err)
	}
	info.Conversation = parseRoom(room)
	return info, usedBy, nil
}

// Delete deletes a file that no message uses but those that are recalled. It returns those that keep it, if any: a
// message may have come to use the file after the plugin named it for deletion.
func (f *Files) Delete(ctx context.Context, key string, recalled map[string]bool) (deleted bool, keptBy []string,
	err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err = f.store.apply(ctx, func(tx *writeTx) error {
		deleted, keptBy = false, nil
		ids, err := tx.strings("SELECT id FROM uses WHERE key = ?", key)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if !recalled[id] {
				keptBy = append(keptBy, id)
			}
		}
		if len(keptBy) > 0 {
			return nil
		}
		n, err := tx.change("UPDATE files SET gone = 1, name = '' WHERE key = ?", key)
		deleted = n > 0
		tx.deleted = tx.deleted || deleted
		return err
	})
	if err != nil || len(keptBy) > 0 {
		return false, keptBy, err
	}
	// The row is first: a crash here makes the plugin ask again, and the file goes then.
	if err := ignoreNotExist(os.Remove(f.Path(key))); err != nil {
		return false, nil, fmt.Errorf("delete an attachment: %w", err)
	}
	return deleted, nil, syncDir(f.dir)
}

func ignoreNotExist(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// syncDir makes a rename or a removal in a folder survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}
