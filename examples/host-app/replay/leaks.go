package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/examples/host-app/chat"
)

// evidence is what a search for leaks compares the stores with.
type evidence struct {
	recalled  map[string]bool     // message ids
	gone      map[string]string   // text that no live message has → the id of its message
	live      []string            // texts that may be there
	innocent  []string            // what else may be there: ids, keys, ext
	goneFiles map[string]struct{} // attachments that no live message uses
}

// gather collects it from a trace that was replayed.
func gather(lines []*traceLine, recalled map[string]bool) *evidence {
	e := &evidence{recalled: recalled, gone: make(map[string]string), goneFiles: make(map[string]struct{})}
	isLive := func(l *traceLine) bool { return l.accepted && !recalled[l.ID] }
	for _, l := range lines {
		e.innocent = append(e.innocent, l.JobID, l.ID, l.ConversationID, l.Sender, l.RecallID, l.MessageID, l.Actor,
			l.Ext, l.Reason)
		if l.Op == "message" && !isLive(l) {
			e.gone[l.Text] = l.ID
			for _, key := range l.Attachments {
				e.goneFiles[key] = struct{}{}
			}
		}
	}
	for _, l := range lines {
		e.innocent = append(e.innocent, l.Attachments...)
		if l.Op == "message" && isLive(l) {
			delete(e.gone, l.Text)
			e.live = append(e.live, l.Text)
			for _, key := range l.Attachments {
				delete(e.goneFiles, key)
				e.live = append(e.live, fileText(key))
			}
		}
	}
	delete(e.gone, "")
	return e
}

// searchServer looks in every store of the server for what was recalled.
func (r *replay) searchServer(ctx context.Context) ([]string, error) {
	e := gather(r.lines, r.recalled)
	byRow, err := e.searchRows(ctx, r.server.Store())
	if err != nil {
		return nil, fmt.Errorf("look for leaks in the store: %w", err)
	}
	byFile, err := e.searchFiles(r.server.Files())
	if err != nil {
		return nil, fmt.Errorf("look for leaks in the attachments: %w", err)
	}
	if err := r.server.Store().Scrub(ctx); err != nil {
		return nil, err
	}
	byByte, err := e.searchBytes(filepath.Dir(r.server.Store().Path()))
	if err != nil {
		return nil, fmt.Errorf("look for leaks in the files of the server: %w", err)
	}
	return slices.Concat(byRow, byFile, e.searchHub(r.server.Hub()), byByte), nil
}

// searchRows looks into every row that can hold a text, by message id and by content.
func (e *evidence) searchRows(ctx context.Context, s *chat.Store) (leaks []string, err error) {
	for place, query := range map[string]string{
		"history":       "SELECT id, json_object('text', text) FROM messages",
		"quotes":        "SELECT id, json_object('text', text) FROM relations",
		"offline queue": "SELECT id, payload FROM offline",
		"roaming log":   "SELECT id, payload FROM roaming",
		"notices":       "SELECT '', notice FROM notices", // the id is what a notice is about
		"placeholders":  "SELECT '', notice FROM placeholders",
	} {
		rows, err := s.Query(ctx, query)
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			var id, body string
			var fields map[string]any
			if err := rows.Scan(&id, &body); err != nil {
				return nil, errors.Join(err, rows.Close())
			}
			if err := json.Unmarshal([]byte(body), &fields); err != nil {
				return nil, errors.Join(err, rows.Close())
			}
			if e.recalled[id] {
				leaks = append(leaks, fmt.Sprintf("%s: message %s is there", place, id))
			}
			if of := e.holdsText(fields); of != "" {
				leaks = append(leaks, fmt.Sprintf("%s: the text of message %s is there", place, of))
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return nil, err
		}
	}
	return leaks, nil
}

// holdsText tells the message whose text is the value of "text", or anywhere below in a notice.
func (e *evidence) holdsText(fields map[string]any) string {
	for name, v := range fields {
		if text, ok := v.(string); ok && (name == "text" || name == "quoted") && e.gone[text] != "" {
			return e.gone[text]
		}
		if below, ok := v.(map[string]any); ok {
			if of := e.holdsText(below); of != "" {
				return of
			}
		}
	}
	return ""
}

// searchFiles looks for attachments that should be deleted.
func (e *evidence) searchFiles(f *chat.Files) (leaks []string, err error) {
	for key := range e.goneFiles {
		switch _, err := os.Stat(f.Path(key)); {
		case err == nil:
			leaks = append(leaks, "attachment: the file "+key+" is there")
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return leaks, nil
}

// searchHub looks into the queues of the connected clients.
func (e *evidence) searchHub(h *chat.Hub) (leaks []string) {
	for _, q := range h.Queued() {
		if e.recalled[q.ID] {
			leaks = append(leaks, fmt.Sprintf("delivery: message %s waits for %s", q.ID, q.User))
		}
	}
	return leaks
}

// searchBytes looks into the files of a folder as they are on disk, deleted rows and logs included, for the texts of
// recalled messages. The archive is left out: no user reads there, and rules may put a text into it.
func (e *evidence) searchBytes(dir string) ([]string, error) {
	f := newFragments()
	f.allow(chat.Schema)
	f.allow("a small file in the place of another: ")
	for _, text := range slices.Concat(e.live, e.innocent) {
		f.allow(text)
	}
	for text, id := range e.gone {
		f.add(text, "message "+id)
	}
	for key := range e.goneFiles {
		f.add(fileText(key), "file "+key)
	}
	return f.leaks(dir)
}

// leaks lists each text once for each file in which there is a piece of it.
func (f *fragments) leaks(dir string) ([]string, error) {
	seen := make(map[string]bool)
	err := f.findInFolder(dir, func(file, name string) { seen[pieceIn(file, name)] = true })
	return slices.Sorted(maps.Keys(seen)), err
}

func pieceIn(file, name string) string {
	return filepath.Base(file) + ": a piece of the text of " + name
}

// scanPlugin looks into the plugin's index, which is closed, for any text of any message: into every file as it is on
// disk, and, since tables of an earlier version are compressed, into every key and value as Badger reads them.
func (r *replay) scanPlugin(dir string) ([]string, error) {
	f := newFragments()
	for _, s := range gather(r.lines, r.recalled).innocent {
		f.allow(s)
	}
	for _, l := range r.lines {
		f.add(l.Text, "message "+l.ID)
	}
	leaks, err := f.leaks(dir)
	if err != nil {
		return nil, fmt.Errorf("look for leaks in the plugin's folder: %w", err)
	}
	seen := make(map[string]bool)
	err = eachRecord(dir, func(key, value []byte) error {
		record := slices.Concat(key, []byte{0}, value)
		return f.find(bytes.NewReader(record), func(name string) { seen[pieceIn("index", name)] = true })
	})
	if err != nil {
		return nil, fmt.Errorf("look for leaks in the plugin's index: %w", err)
	}
	return append(leaks, slices.Sorted(maps.Keys(seen))...), nil
}

// eachRecord reads a copy of a Badger database, with all versions of every key that it still holds.
func eachRecord(dir string, visit func(key, value []byte) error) error {
	work, err := os.MkdirTemp("", "recall-index")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := os.CopyFS(filepath.Join(work, "index"), os.DirFS(dir)); err != nil {
		return err
	}
	options := badger.DefaultOptions(filepath.Join(work, "index"))
	db, err := badger.OpenManaged(options.WithLogger(nil).WithNumVersionsToKeep(math.MaxInt))
	if err != nil {
		return err
	}
	defer db.Close()
	txn := db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{AllVersions: true, PrefetchValues: true, PrefetchSize: 100})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		if err := item.Value(func(value []byte) error { return visit(item.Key(), value) }); err != nil {
			return err
		}
	}
	return nil
}
