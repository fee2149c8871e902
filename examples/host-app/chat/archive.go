package chat

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/chat-recall/recall/shared"
)

//go:embed archive.sql
var archiveSchema string

// archiveVersion is the version of archiveSchema, as schemaVersion.
const archiveVersion = 1

const (
	// HoldLabel is the label of a message that keeps its archived content, and that of its edits, from being purged. Amend
	// sets it while the message is live. What compliance holds and releases is in the archive, before and after the
	// recall, and counts instead of the label.
	HoldLabel = "hold"

	// ArchiveFolder is the folder of the archive, in that of the server.
	ArchiveFolder = "archive"

	// purgeEvery is how late content is purged at most.
	purgeEvery = time.Minute

	// purgeBatch bounds the messages that are looked up at a time to be purged.
	purgeBatch = 100
)

var errNotArchived = refuse(http.StatusNotFound, "the archive has no such message: it was purged, or never archived")

// Archive keeps the content of messages whose recall has the disposition "archive", until their retention ends. It is a
// database and a folder of its own, apart from what users read. Only compliance reads it, and whatever it reads is
// recorded before it gets it.
type Archive struct {
	dir string
	db  *sql.DB // one connection
	now func() time.Time
}

// Archived is the content of one message.
type Archived struct {
	Event      shared.Event   `json:"event"`
	Text       string         `json:"text"`
	Files      []ArchivedFile `json:"files"`
	Edits      []ArchivedEdit `json:"edits"`      // newest first
	MoreEdits  bool           `json:"more_edits"` // older ones are left out, and are to be read by their own ids
	ArchivedAt time.Time      `json:"archived_at"`
	ExpiresAt  time.Time      `json:"expires_at"`
	Held       bool           `json:"held"` // it is not purged, also after ExpiresAt
}

// ArchivedFile is an attachment in the archive.
type ArchivedFile struct {
	Key  string `json:"key"`
	Name string `json:"name"`
}

// ArchivedEdit is an edit of an archived message.
type ArchivedEdit struct {
	MessageID string    `json:"message_id"`
	SentAt    time.Time `json:"sent_at"`
	Text      string    `json:"text"`
}

// Access is something that compliance did to the archive.
type Access struct {
	Entry     int64     `json:"entry"`
	At        time.Time `json:"at"`
	Auditor   string    `json:"auditor"`
	Did       string    `json:"did"` // read, file, hold or release
	MessageID string    `json:"message_id"`
	Key       string    `json:"key,omitempty"` // of a file
}

// openArchive opens the archive in a folder, or makes it.
func openArchive(dir string, now func() time.Time) (*Archive, error) {
	a := &Archive{dir: dir, now: now}
	if err := os.MkdirAll(a.files(), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the archive: %w", err)
	}
	// No write-ahead log: what is purged is then in no file. EXTRA makes each commit survive a power cut.
	path := filepath.Join(dir, "archive.db")
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma="+patient+
		"&_pragma=journal_mode(DELETE)&_pragma=synchronous(EXTRA)&_pragma=secure_delete(ON)&_pragma=temp_store(MEMORY)"+
		"&_txlock=immediate")
	if err != nil {
		return nil, fmt.Errorf("open the archive: %w", err)
	}
	db.SetMaxOpenConns(1)
	if err := prepare(db, path, archiveSchema, archiveVersion); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	a.db = db
	return a, nil
}

// Close closes the archive.
func (a *Archive) Close() error { return a.db.Close() }

func (a *Archive) files() string { return filepath.Join(a.dir, "files") }

func (a *Archive) path(key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(a.files(), hex.EncodeToString(sum[:]))
}

// change runs do in a transaction, which excludes those of others.
func (a *Archive) change(ctx context.Context, do func(tx *sql.Tx) error) error {
	tx, err := a.db.BeginTx(ctx, nil)
	if err == nil {
		if err = do(tx); err == nil {
			err = tx.Commit()
		} else {
			err = errors.Join(err, tx.Rollback())
		}
	}
	return err
}

// expiry is when the archived content of an event may be purged.
func expiry(e *shared.Event) int64 { return e.RecalledAt.Add(e.Retention).UnixMicro() }

func labeled(e *shared.Event) bool { return slices.Contains(e.Message.Labels, HoldLabel) }

// KeepText archives the text of a recalled message. If it is archived already, nothing changes.
func (a *Archive) KeepText(ctx context.Context, e *shared.Event, text string) error {
	event, err := json.Marshal(e)
	if err == nil {
		original := cmp.Or(relatedBy(&e.Message, shared.RelationEdit), e.Message.ID)
		_, err = a.db.ExecContext(ctx, `INSERT INTO archived (id, original, sent_at, event, text, at, expires, labeled)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`, e.Message.ID, original, e.Message.SentAt.UnixMicro(),
			string(event), text, a.now().UnixMicro(), expiry(e), labeled(e))
	}
	if err != nil {
		return fmt.Errorf("archive a text: %w", err)
	}
	return nil
}

// KeepFile archives an attachment that is at path. If it is archived already, nothing changes.
func (a *Archive) KeepFile(ctx context.Context, e *shared.Event, file ArchivedFile, path string) error {
	// A link and not a move: until the server has forgotten the file, a crash would let it look for it in its place.
	switch err := os.Link(path, a.path(file.Key)); {
	case errors.Is(err, os.ErrExist):
	case errors.Is(err, os.ErrNotExist): // it was deleted before
		return nil
	case err != nil:
		return fmt.Errorf("archive an attachment: %w", err)
	}
	if err := syncDir(a.files()); err != nil {
		return err
	}
	_, err := a.db.ExecContext(ctx, `INSERT INTO archived_files (key, id, name, expires, labeled) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT DO NOTHING`, file.Key, e.Message.ID, file.Name, expiry(e), labeled(e))
	if err != nil {
		return fmt.Errorf("archive an attachment: %w", err)
	}
	return nil
}

// DropFile takes an attachment out of the archive that stays with a live message.
func (a *Archive) DropFile(ctx context.Context, key string) error {
	err := ignoreNotExist(os.Remove(a.path(key)))
	if err == nil {
		_, err = a.db.ExecContext(ctx, "DELETE FROM archived_files WHERE key = ?", key)
	}
	if err != nil {
		return fmt.Errorf("take an attachment out of the archive: %w", err)
	}
	return syncDir(a.files())
}

// What is held, for a row of a table: the decision of compliance, or else the label of the message. An edit is also
// held as its original is.
const (
	heldText = `(COALESCE((SELECT held FROM holds WHERE holds.id = archived.id), archived.labeled)
		OR COALESCE((SELECT held FROM holds WHERE holds.id = archived.original),
			(SELECT o.labeled FROM archived o WHERE o.id = archived.original), 0))`
	heldFile = `COALESCE((SELECT held FROM holds WHERE holds.id = archived_files.id), archived_files.labeled)`
)

// record records what an auditor does.
func (a *Archive) record(ctx context.Context, tx *sql.Tx, auditor, did, id, key string) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO accesses (at, auditor, did, id, key) VALUES (?, ?, ?, ?, ?)",
		a.now().UnixMicro(), auditor, did, id, key)
	return err
}

// Read returns the content of a message and of its edits, once it is recorded that the auditor has each of them.
func (a *Archive) Read(ctx context.Context, auditor, id string) (content Archived, err error) {
	err = a.change(ctx, func(tx *sql.Tx) error {
		var event string
		var at, expires int64
		err := tx.QueryRowContext(ctx, "SELECT event, text, at, expires, "+heldText+
			" FROM archived WHERE id = ?", id).Scan(&event, &content.Text, &at, &expires, &content.Held)
		if errors.Is(err, sql.ErrNoRows) {
			return errNotArchived
		}
		if err != nil {
			return err
		}
		content.ArchivedAt, content.ExpiresAt = time.UnixMicro(at).UTC(), time.UnixMicro(expires).UTC()
		if err := json.Unmarshal([]byte(event), &content.Event); err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, "SELECT key, name FROM archived_files WHERE id = ? ORDER BY key", id)
		if err != nil {
			return err
		}
		content.Files, err = scanAll(rows, func(r *sql.Rows) (f ArchivedFile, err error) {
			return f, r.Scan(&f.Key, &f.Name)
		})
		if err != nil {
			return err
		}
		if err := a.readEdits(ctx, tx, id, &content); err != nil {
			return err
		}
		for _, edit := range content.Edits {
			if err := a.record(ctx, tx, auditor, "read", edit.MessageID, ""); err != nil {
				return err
			}
		}
		return a.record(ctx, tx, auditor, "read", id, "")
	})
	if err != nil {
		return Archived{}, fmt.Errorf("read the archive: %w", err)
	}
	return content, nil
}

// readEdits reads the edits of a message, newest first, until there are maxPageText bytes of text.
func (a *Archive) readEdits(ctx context.Context, tx *sql.Tx, id string, content *Archived) error {
	rows, err := tx.QueryContext(ctx, `SELECT id, sent_at, text FROM archived WHERE original = ?1 AND id <> ?1
		ORDER BY sent_at DESC, id DESC`, id)
	if err != nil {
		return err
	}
	size := 0
	content.Edits, err = scanUntil(rows, func(r *sql.Rows) (e ArchivedEdit, end bool, err error) {
		var at int64
		err = r.Scan(&e.MessageID, &at, &e.Text)
		e.SentAt = time.UnixMicro(at).UTC()
		size += len(e.Text)
		content.MoreEdits = size >= maxPageText
		return e, content.MoreEdits, err
	})
	return err
}

// ReadFile opens an attachment of a message, once it is recorded that the auditor has it.
func (a *Archive) ReadFile(ctx context.Context, auditor, id, key string) (file *os.File, name string, err error) {
	err = a.change(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, "SELECT name FROM archived_files WHERE key = ? AND id = ?", key, id).Scan(&name)
		if err == nil {
			file, err = os.Open(a.path(key))
		}
		if errors.Is(err, sql.ErrNoRows) || errors.Is(err, os.ErrNotExist) {
			return errNotArchived
		}
		if err != nil {
			return err
		}
		return a.record(ctx, tx, auditor, "file", id, key)
	})
	if err != nil {
		if file != nil {
			err = errors.Join(err, file.Close())
		}
		return nil, "", fmt.Errorf("read the archive: %w", err)
	}
	return file, name, nil
}

// Hold keeps the content of a message and of its edits from being purged, or releases it, and records that. It may come
// before the content is archived. It reports whether the message is held now: an edit may be held with its original.
func (a *Archive) Hold(ctx context.Context, auditor, id string, held bool) (now bool, err error) {
	did := "release"
	if held {
		did = "hold"
	}
	err = a.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO holds (id, held) VALUES (?, ?)
			ON CONFLICT DO UPDATE SET held = excluded.held`, id, held)
		if err != nil {
			return err
		}
		err = tx.QueryRowContext(ctx, "SELECT "+heldText+" FROM archived WHERE id = ?", id).Scan(&now)
		if errors.Is(err, sql.ErrNoRows) {
			now, err = held, nil
		}
		return errors.Join(err, a.record(ctx, tx, auditor, did, id, ""))
	})
	if err != nil {
		return false, fmt.Errorf("hold a message in the archive: %w", err)
	}
	return now, nil
}

// Accesses lists what compliance did before an entry, newest first; before 0 from the newest.
func (a *Archive) Accesses(ctx context.Context, before int64, limit int) ([]Access, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	rows, err := a.db.QueryContext(ctx, `SELECT entry, at, auditor, did, id, key FROM accesses WHERE entry < ?
		ORDER BY entry DESC LIMIT ?`, before, limit)
	if err != nil {
		return nil, fmt.Errorf("read who read the archive: %w", err)
	}
	return scanAll(rows, func(r *sql.Rows) (x Access, err error) {
		var at int64
		err = r.Scan(&x.Entry, &at, &x.Auditor, &x.Did, &x.MessageID, &x.Key)
		x.At = time.UnixMicro(at).UTC()
		return x, err
	})
}

// Purge deletes what was to be kept until now and is not held, attachments too. It returns of how many messages.
func (a *Archive) Purge(ctx context.Context) (purged int, err error) {
	for {
		ids, err := a.expired(ctx)
		if err != nil || len(ids) == 0 {
			return purged, err
		}
		for _, id := range ids {
			if err := a.purge(ctx, id); err != nil {
				return purged, fmt.Errorf("purge the archive: %w", err)
			}
			purged++
		}
	}
}

// expired lists messages that may be purged.
func (a *Archive) expired(ctx context.Context) ([]string, error) {
	now := a.now().UnixMicro()
	rows, err := a.db.QueryContext(ctx, `SELECT id FROM archived WHERE expires <= ? AND NOT `+heldText+`
		UNION SELECT id FROM archived_files WHERE expires <= ? AND NOT `+heldFile+` LIMIT ?`, now, now,
		purgeBatch)
	if err != nil {
		return nil, fmt.Errorf("find what is to be purged: %w", err)
	}
	return scanAll(rows, func(r *sql.Rows) (id string, err error) { return id, r.Scan(&id) })
}

// purge deletes the content of a message, unless it is held by now. Files come first: a crash leaves rows, which are
// purged again.
func (a *Archive) purge(ctx context.Context, id string) error {
	return a.change(ctx, func(tx *sql.Tx) error {
		var held bool
		err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM archived WHERE id = ?1 AND "+heldText+
			") OR EXISTS (SELECT 1 FROM archived_files WHERE id = ?1 AND "+heldFile+")", id).Scan(&held)
		if err != nil || held {
			return err
		}
		rows, err := tx.QueryContext(ctx, "SELECT key FROM archived_files WHERE id = ?", id)
		if err != nil {
			return err
		}
		keys, err := scanAll(rows, func(r *sql.Rows) (key string, err error) { return key, r.Scan(&key) })
		if err != nil {
			return err
		}
		for _, key := range keys {
			if err := ignoreNotExist(os.Remove(a.path(key))); err != nil {
				return err
			}
		}
		if err := syncDir(a.files()); err != nil {
			return err
		}
		for _, table := range []string{"archived", "archived_files"} {
			if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE id = ?", id); err != nil {
				return err
			}
		}
		return nil
	})
}

// purgeLoop purges until ctx ends.
func (s *Server) purgeLoop(ctx context.Context) {
	tick := time.NewTicker(purgeEvery)
	defer tick.Stop()
	for {
		switch n, err := s.archive.Purge(ctx); {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.log.Error("the archive could not be purged; trying again", "error", err)
		case n > 0:
			s.log.Info("purged the archive", "messages", n)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// archiveText archives the text of a recalled message, if its recall says so and the history still has it.
func (s *Server) archiveText(ctx context.Context, d shared.Delivery) error {
	if d.Disposition != shared.DispositionArchive {
		return nil
	}
	m, found, err := s.store.Message(ctx, d.Message.ID)
	if err != nil || !found {
		return err
	}
	return s.archive.KeepText(ctx, &d.Event, m.Text)
}

// archiveFile archives an attachment that a recall releases, if its recall says so and the server still has it.
func (s *Server) archiveFile(ctx context.Context, d shared.Delivery, key string) error {
	if d.Disposition != shared.DispositionArchive {
		return nil
	}
	info, _, err := s.files.Info(ctx, key)
	if errors.Is(err, errNoFile) || err == nil && info.Gone {
		return nil
	}
	if err != nil {
		return err
	}
	return s.archive.KeepFile(ctx, &d.Event, ArchivedFile{Key: key, Name: info.Name}, s.files.Path(key))
}
