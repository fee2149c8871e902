package chat

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	_ "modernc.org/sqlite" // the database/sql driver "sqlite"
)

const (
	// maxBatch bounds how many writes share one transaction: enough to hide a slow disk, few enough to answer soon.
	maxBatch = 256

	// scrubEvery is how long the text of a recalled message may stay in the write-ahead log after it left the tables.
	scrubEvery = time.Second

	// patient is how many milliseconds a transaction waits for those of other servers. Emptying the log is tried again, so
	// it waits for a moment only: other writes wait for it.
	patient   = "busy_timeout(10000)"
	impatient = "busy_timeout(100)"
)

// errClosed says that the store takes no more writes.
var errClosed = errors.New("the store is closed")

// Store is the server's database: history, offline queues, roaming logs, kept notices, and who is in which
// conversation.
//
// All writes go through one goroutine that gathers what is waiting into one transaction with one sync, so a hundred
// senders pay for one commit. A write that returned is on disk.
type Store struct {
	path  string
	node  string   // Data.Node
	lock  *os.File // held, so that no server works on the same folder that does not share it
	write *sql.DB  // one connection, the writer's
	read  *sql.DB
	jobs  chan job
	now   chan chan error // Scrub
	quit  chan struct{}
	ended chan struct{} // the writer has returned
	done  sync.WaitGroup

	stopped atomic.Bool
	scrub   atomic.Bool // something was deleted since the log was last emptied
	lastSeq atomic.Int64
	members memberCache
}

// job is one write. Its error undoes it, and nothing of the others in the same transaction.
type job struct {
	do     func(tx *writeTx) error
	answer chan error
}

// databaseFile is the name of the database in the folder of a server.
const databaseFile = "chat.db"

// Data says where a server keeps what it stores.
type Data struct {
	Folder string

	// Node is set in a cluster: the name of this server among those that share the folder. They share it as they would
	// share a database on a machine of its own. Without it no other server has the folder.
	Node string
}

// openStore opens the database, or makes it.
func openStore(data Data) (*Store, error) {
	if err := os.MkdirAll(data.Folder, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder %s: %w", data.Folder, err)
	}
	lock, err := lockFolder(data)
	if err != nil {
		return nil, err
	}
	s := &Store{path: filepath.Join(data.Folder, databaseFile), node: data.Node, lock: lock,
		jobs: make(chan job, 4*maxBatch), now: make(chan chan error), quit: make(chan struct{}),
		ended: make(chan struct{})}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

// lockFolder takes the data folder for this process, or for all that share it; the kernel lets go of it when the file
// is closed.
func lockFolder(data Data) (*os.File, error) {
	lock, err := os.Open(data.Folder)
	if err != nil {
		return nil, fmt.Errorf("open the data folder: %w", err)
	}
	how := syscall.LOCK_EX
	if data.Node != "" {
		how = syscall.LOCK_SH
	}
	if err := syscall.Flock(int(lock.Fd()), how|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("the data folder %s is held by another server (%w); stop it, or name another "+
			"folder with --data", data.Folder, err), lock.Close())
	}
	return lock, nil
}

func (s *Store) open() error {
	// secure_delete overwrites what is deleted; synchronous=FULL makes a commit survive a power cut.
	dsn := "file:" + s.path + "?_pragma=" + patient + "&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)" +
		"&_pragma=secure_delete(ON)&_pragma=temp_store(MEMORY)&_pragma=foreign_keys(ON)&_txlock=immediate"
	var err error
	if s.write, err = sql.Open("sqlite", dsn); err != nil {
		return fmt.Errorf("open %s: %w", s.path, err)
	}
	s.write.SetMaxOpenConns(1)
	if s.read, err = sql.Open("sqlite", dsn+"&_pragma=query_only(ON)"); err != nil {
		return errors.Join(fmt.Errorf("open %s: %w", s.path, err), s.write.Close())
	}
	s.read.SetMaxOpenConns(4)
	if err := prepare(s.write, s.path, Schema, schemaVersion); err != nil {
		return errors.Join(err, s.write.Close(), s.read.Close())
	}
	if err := s.load(); err != nil {
		return errors.Join(err, s.write.Close(), s.read.Close())
	}
	conn, err := s.write.Conn(context.Background())
	if err != nil {
		return errors.Join(fmt.Errorf("open %s: %w", s.path, err), s.write.Close(), s.read.Close())
	}
	s.done.Go(func() { s.run(conn) })
	return nil
}

// load reads what is kept in memory.
func (s *Store) load() error {
	var seq int64
	if err := s.read.QueryRow("SELECT COALESCE(MAX(seq), 0) FROM messages").Scan(&seq); err != nil {
		return fmt.Errorf("read %s: %w", s.path, err)
	}
	s.lastSeq.Store(seq)
	return s.loadMembers()
}

// LastSeq is the sequence number of the newest message that this server has seen.
func (s *Store) LastSeq() int64 { return s.lastSeq.Load() }

// saw notes the sequence number of a message.
func (s *Store) saw(seq int64) {
	for last := s.lastSeq.Load(); seq > last && !s.lastSeq.CompareAndSwap(last, seq); {
		last = s.lastSeq.Load()
	}
}

// Path is the file of the database.
func (s *Store) Path() string { return s.path }

// Query reads with SQL, for a tool that inspects the store.
func (s *Store) Query(ctx context.Context, query string) (*sql.Rows, error) {
	return s.read.QueryContext(ctx, query)
}

// Close finishes the writes that were given and closes the database.
func (s *Store) Close() error {
	if !s.stopped.Swap(true) {
		close(s.quit)
	}
	s.done.Wait()
	return errors.Join(s.read.Close(), s.write.Close(), s.lock.Close())
}

// apply runs do in the writer's next transaction and returns once that is on disk. ctx bounds the wait for a place in
// the queue; what has one is carried out.
func (s *Store) apply(ctx context.Context, do func(tx *writeTx) error) error {
	j := job{do: do, answer: make(chan error, 1)}
	select {
	case s.jobs <- j:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.quit:
		return errClosed
	}
	select {
	case err := <-j.answer:
		return err
	case <-s.ended:
	}
	select {
	case err := <-j.answer:
		return err
	default:
		return errClosed // it came into the queue after the writer had emptied it
	}
}

// run is the writer.
func (s *Store) run(conn *sql.Conn) {
	defer close(s.ended)
	tx := &writeTx{conn: conn, stmts: make(map[string]*sql.Stmt)}
	defer tx.close()
	tick := time.NewTicker(scrubEvery)
	defer tick.Stop()
	for {
		select {
		case j := <-s.jobs:
			s.commit(tx, s.gather(j))
		case <-tick.C:
			if s.scrub.Load() {
				_ = s.emptyLog(tx) // the next tick tries again
			}
		case answer := <-s.now:
			answer <- s.emptyLog(tx)
		case <-s.quit:
			for {
				select {
				case j := <-s.jobs:
					s.commit(tx, s.gather(j))
					continue
				default:
				}
				_ = s.emptyLog(tx) // closing the database does it again
				return
			}
		}
	}
}

// gather takes what is waiting.
func (s *Store) gather(first job) []job {
	batch := []job{first}
	for len(batch) < maxBatch {
		select {
		case j := <-s.jobs:
			batch = append(batch, j)
		default:
			return batch
		}
	}
	return batch
}

// commit carries a batch out in one transaction and answers each of its jobs.
func (s *Store) commit(tx *writeTx, batch []job) {
	errs := make([]error, len(batch))
	err := tx.exec("BEGIN IMMEDIATE")
	if err == nil {
		for i, j := range batch {
			errs[i] = tx.savepoint(j.do)
		}
		if err = tx.exec("COMMIT"); err != nil {
			_ = tx.exec("ROLLBACK") // nothing is left to roll back if COMMIT already did
		}
	}
	if tx.deleted {
		s.scrub.Store(true)
		tx.deleted = false
	}
	for i, j := range batch {
		if err != nil && errs[i] == nil {
			errs[i] = fmt.Errorf("write %s: %w", s.path, err)
		}
		j.answer <- errs[i]
	}
}

// Scrub waits until what was deleted is in no file of the database.
func (s *Store) Scrub(ctx context.Context) error {
	for {
		answer := make(chan error, 1)
		select {
		case s.now <- answer:
		case <-s.quit:
			return errClosed
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := <-answer; !errors.Is(err, errBusy) {
			return err
		}
		select {
		case <-time.After(scrubEvery / 50):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// errBusy says that a reader is using the write-ahead log.
var errBusy = errors.New("the database is being read")

// emptyLog moves the write-ahead log into the database and cuts it to nothing, so that deleted text is in no file.
func (s *Store) emptyLog(tx *writeTx) error {
	s.scrub.Store(false)
	ctx := context.Background()
	var busy, logged, moved int
	_, err := tx.conn.ExecContext(ctx, "PRAGMA "+impatient)
	if err == nil {
		err = tx.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &logged, &moved)
	}
	_, restored := tx.conn.ExecContext(ctx, "PRAGMA "+patient)
	err = errors.Join(err, restored)
	if err == nil && busy != 0 {
		err = errBusy
	}
	if err != nil {
		s.scrub.Store(true)
		return fmt.Errorf("empty the log of %s: %w", s.path, err)
	}
	return nil
}

// writeTx is what a job writes with.
type writeTx struct {
	conn    *sql.Conn
	stmts   map[string]*sql.Stmt
	deleted bool // a job removed text
}

func (tx *writeTx) stmt(query string) (*sql.Stmt, error) {
	if st, ok := tx.stmts[query]; ok {
		return st, nil
	}
	st, err := tx.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, fmt.Errorf("prepare %.60q: %w", query, err)
	}
	tx.stmts[query] = st
	return st, nil
}

func (tx *writeTx) exec(query string, args ...any) error {
	_, err := tx.change(query, args...)
	return err
}

// change is exec that tells how many rows changed.
func (tx *writeTx) change(query string, args ...any) (int64, error) {
	st, err := tx.stmt(query)
	if err != nil {
		return 0, err
	}
	res, err := st.Exec(args...)
	if err != nil {
		return 0, fmt.Errorf("%.60q: %w", query, err)
	}
	return res.RowsAffected()
}

// row reads one row into dest and tells whether there was one.
func (tx *writeTx) row(query string, args []any, dest ...any) (bool, error) {
	st, err := tx.stmt(query)
	if err != nil {
		return false, err
	}
	switch err := st.QueryRow(args...).Scan(dest...); {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("%.60q: %w", query, err)
	}
	return true, nil
}

// strings reads a column of text.
func (tx *writeTx) strings(query string, args ...any) ([]string, error) {
	st, err := tx.stmt(query)
	if err != nil {
		return nil, err
	}
	rows, err := st.Query(args...)
	if err != nil {
		return nil, fmt.Errorf("%.60q: %w", query, err)
	}
	return scanAll(rows, func(r *sql.Rows) (v string, err error) { return v, r.Scan(&v) })
}

// savepoint runs do and undoes it alone if it fails.
func (tx *writeTx) savepoint(do func(*writeTx) error) error {
	if err := tx.exec("SAVEPOINT job"); err != nil {
		return err
	}
	err := do(tx)
	if err != nil {
		if undo := tx.exec("ROLLBACK TO job"); undo != nil {
			return errors.Join(err, undo)
		}
	}
	return errors.Join(err, tx.exec("RELEASE job"))
}

func (tx *writeTx) close() {
	for _, st := range tx.stmts {
		_ = st.Close()
	}
	_ = tx.conn.Close()
}

// scanAll reads all rows and closes them. Without rows the list is empty and not nil: as JSON it is a list too.
func scanAll[T any](rows *sql.Rows, scan func(*sql.Rows) (T, error)) ([]T, error) {
	return scanUntil(rows, func(r *sql.Rows) (T, bool, error) {
		v, err := scan(r)
		return v, false, err
	})
}

// scanUntil is scanAll that ends with the row for which scan says so.
func scanUntil[T any](rows *sql.Rows, scan func(*sql.Rows) (T, bool, error)) (list []T, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	list = []T{}
	for rows.Next() {
		v, end, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("read a row: %w", err)
		}
		if list = append(list, v); end {
			break
		}
	}
	return list, rows.Err()
}
