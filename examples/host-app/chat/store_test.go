package chat

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

// Deleted text must leave the database files, whatever pages were split and merged meanwhile.
func TestStore_DeletedTextLeavesTheFiles(t *testing.T) {
	dir := t.TempDir()
	s, err := openStore(Data{Folder: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := testContext(t)
	const piece = 16
	deleted := make(map[[piece]byte]string) // a piece of a text that will be deleted → the id of its message
	for i := range 600 {
		id := newID()
		word := fmt.Sprintf("%x", sha256.Sum256([]byte(id)))
		text := "letter " + word + " says that the " + strings.Repeat("river "+word[:9]+" ", i%40) + "is high"
		m := Stored{Text: text, Message: shared.Message{Tenant: Tenant, ID: id, Conversation: groupRoom, Sender: "dan",
			Type: shared.TypeText}}
		if _, err := s.Insert(ctx, &m, []string{"ben", "ann"}, []string{"dan", "ann"}); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			for at := 0; at+piece <= len(text); at += piece / 2 {
				if p := text[at : at+piece]; strings.Contains(p, word[:5]) || strings.Contains(word, p) {
					deleted[[piece]byte([]byte(p))] = id
				}
			}
		}
	}
	// found lists the messages of which a piece is in a file.
	found := func() map[string]bool {
		ids := make(map[string]bool)
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for at := 0; at+piece <= len(content); at++ {
				if id, ok := deleted[[piece]byte(content[at:at+piece])]; ok {
					ids[id] = true
				}
			}
		}
		return ids
	}
	if err := s.Scrub(ctx); err != nil {
		t.Fatal(err)
	}
	if n := len(found()); n != 200 {
		t.Fatalf("before the deletion %d of 200 texts are found", n)
	}
	for _, id := range deleted {
		for _, from := range []func(context.Context, string, shared.Conversation) (bool, error){
			s.Remove, s.Dequeue, s.Unroam,
		} {
			if _, err := from(ctx, id, groupRoom); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Scrub(ctx); err != nil {
		t.Fatal(err)
	}
	if n := len(found()); n > 0 {
		t.Fatalf("%d deleted texts are still in the files", n)
	}
}

func TestStore_OtherEdition(t *testing.T) {
	for name, setup := range map[string]string{
		"before there were versions": "CREATE TABLE messages (id TEXT)",
		"newer":                      "CREATE TABLE messages (id TEXT); PRAGMA user_version = 1000",
	} {
		for _, file := range []string{databaseFile, ArchiveFolder + "/archive.db"} {
			t.Run(name+" "+file, func(t *testing.T) {
				dir := t.TempDir()
				if err := os.MkdirAll(filepath.Join(dir, ArchiveFolder), 0o700); err != nil {
					t.Fatal(err)
				}
				db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, file))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := db.Exec(setup); err != nil {
					t.Fatal(err)
				}
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
				_, err = newServer(Data{Folder: dir}, hclog.NewNullLogger())
				if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, file)) ||
					!strings.Contains(err.Error(), "to start afresh, delete the data folder and the index of the plugin") {
					t.Errorf("%v", err)
				}
			})
		}
	}
}
