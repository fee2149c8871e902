package main

import (
	"bytes"
	"context"
	"database/sql"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chat-recall/recall/host/hosttest"
)

//go:embed testdata/schema.sql
var schema string

func TestMain(m *testing.M) {
	code := m.Run()
	if server.cmd != nil {
		_ = server.cmd.Process.Signal(syscall.SIGINT)
		_ = server.cmd.Wait()
		os.RemoveAll(server.dir)
	}
	os.Exit(code)
}

// server is the PostgreSQL of all tests.
var server struct {
	once sync.Once
	dir  string
	cmd  *exec.Cmd
	log  bytes.Buffer
	err  error

	databases atomic.Int64
}

// testDB is a database with the tables of Mattermost.
type testDB struct {
	*sql.DB
	t      testing.TB
	source string
}

// newDB makes a database of its own for a test.
func newDB(t testing.TB) testDB {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		hosttest.Missing(t, "PostgreSQL: /usr/lib/postgresql/*/bin/initdb")
	}
	server.once.Do(func() { server.err = startServer(filepath.Dir(slices.Max(found))) })
	if server.err != nil {
		t.Fatal(server.err)
	}
	name := fmt.Sprintf("test%d", server.databases.Add(1))
	admin := open1(t, source("postgres"))
	if _, err := admin.ExecContext(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	db := testDB{DB: open1(t, source(name)), t: t, source: source(name)}
	db.exec(schema)
	return db
}

func source(database string) string {
	return fmt.Sprintf("host=%s user=postgres dbname=%s sslmode=disable", server.dir, database)
}

func open1(t testing.TB, source string) *sql.DB {
	t.Helper()
	db, err := sql.Open("postgres", source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func startServer(bin string) error {
	dir, err := os.MkdirTemp("", "recallpg")
	if err != nil {
		return err
	}
	server.dir = dir
	as := &syscall.SysProcAttr{Pdeathsig: syscall.SIGINT}
	if os.Geteuid() == 0 { // it refuses to run as root
		u, err := user.Lookup("postgres")
		if err != nil {
			return err
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			return err
		}
	}
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-A", "trust", "-U", "postgres", "--no-locale",
		"-E", "UTF8")
	initdb.SysProcAttr, initdb.Dir = as, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	server.cmd = exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", dir, "-c", "listen_addresses=", "-c",
		"fsync=off")
	server.cmd.SysProcAttr, server.cmd.Dir = as, dir
	server.cmd.Stdout, server.cmd.Stderr = &server.log, &server.log
	if err := server.cmd.Start(); err != nil {
		return err
	}
	db, err := sql.Open("postgres", source("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err := db.PingContext(context.Background()); err == nil || time.Now().After(end) {
			return err
		}
	}
}

// exec changes something.
func (db testDB) exec(query string, args ...any) {
	db.t.Helper()
	if _, err := db.ExecContext(db.t.Context(), query, args...); err != nil {
		db.t.Fatalf("%s: %v", query, err)
	}
}

// text is one value, as text.
func (db testDB) text(query string, args ...any) string {
	db.t.Helper()
	var v sql.NullString
	if err := db.QueryRowContext(db.t.Context(), query, args...).Scan(&v); err != nil {
		db.t.Fatalf("%s: %v", query, err)
	}
	return v.String
}

// count is one number.
func (db testDB) count(query string, args ...any) (n int) {
	db.t.Helper()
	if err := db.QueryRowContext(db.t.Context(), query, args...).Scan(&n); err != nil {
		db.t.Fatalf("%s: %v", query, err)
	}
	return n
}

// Names of the users and channels of newChat. In Mattermost ids have 26 letters.
const (
	root, alice, bob, carol, dave, erin, gone = "root", "alice", "bob", "carol", "dave", "erin", "gone"
	town, private, direct, group, archived    = "town", "private", "direct", "group", "archived"
)

// newChat makes a database with users, a team and channels: root is a system admin, dave a team admin, alice the
// creator and admin of the channels, carol a guest, erin not in the team, gone deactivated.
func newChat(t testing.TB) testDB {
	db := newDB(t)
	for i, u := range []string{root, alice, bob, carol, dave, erin, gone} {
		roles := "system_user"
		if u == root {
			roles += " system_admin"
		}
		db.exec(`INSERT INTO users VALUES ($1, $1, $2, $3, $4, 'en')`, u, i, map[bool]int{u == gone: 1}[true], roles)
	}
	for _, u := range []string{alice, bob, carol, dave, gone} {
		db.exec(`INSERT INTO teammembers VALUES ('team', $1, '', 0, $2, $3)`, u, u == dave, u == carol)
	}
	for c, kind := range map[string]string{town: "O", private: "P", direct: "D", group: "G", archived: "O"} {
		team, members := "team", []string{alice, bob}
		if kind == "D" || kind == "G" {
			team = ""
		}
		if c == town {
			members = append(members, gone)
		}
		db.exec(`INSERT INTO channels VALUES ($1, $2, $3, $4, $5)`, c, kind, team, alice,
			map[bool]int{c == archived: 1}[true])
		for _, u := range members {
			db.exec(`INSERT INTO channelmembers VALUES ($1, $2, '', $3)`, c, u, u == alice)
		}
	}
	return db
}

// post adds a post of a user, sent so long ago.
func (db testDB) post(id, channel, user, message string, ago time.Duration) {
	db.t.Helper()
	at := time.Now().Add(-ago).UnixMilli()
	db.exec(`INSERT INTO posts (id, channelid, userid, message, createat, updateat) VALUES ($1, $2, $3, $4, $5, $5)`,
		id, channel, user, message, at)
}
