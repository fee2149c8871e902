package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/dgraph-io/badger/v4"
)

type diskCall struct {
	id      uint32
	records []record
}

const (
	diskCalls      = 4096    // that may wait for the committer
	diskGroupBytes = 1 << 20 // of records, at most in one commit
)

// diskChild writes the calls that come over its socket to Badger, by one committer that gathers what waits into one
// commit, and answers each once it is on disk.
func diskChild(_ context.Context, args []string) error {
	set := flag.NewFlagSet("disk-child", flag.ContinueOnError)
	folder := set.String("folder", "", "of the data")
	if err := parse(set, args); err != nil {
		return err
	}
	runtime.GOMAXPROCS(max(1, runtime.NumCPU()/2))                 // as the plugin: the callers need the other half
	if err := syscall.SetNonblock(childSocket, true); err != nil { // waiting for it blocks no thread
		return err
	}
	socket := os.NewFile(childSocket, "socket")
	c, err := newDiskCommitter(*folder)
	if err != nil {
		return err
	}
	calls, read := make(chan diskCall, diskCalls), make(chan error, 1)
	go func() {
		defer close(calls)
		read <- readCalls(socket, calls)
	}()
	if err := c.run(calls, socket); err != nil {
		return err // the reader ends with this process
	}
	return errors.Join(<-read, c.close())
}

func readCalls(socket io.Reader, calls chan<- diskCall) error {
	r := bufio.NewReaderSize(socket, 1<<20)
	for {
		frame, err := readFrame(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		id, records, err := parseFrame(frame)
		if err != nil {
			return err
		}
		calls <- diskCall{id, records}
	}
}

// A diskCommitter is the only writer of a database.
type diskCommitter struct {
	db      *badger.DB
	log     *syncedLog
	version uint64
}

func newDiskCommitter(folder string) (*diskCommitter, error) {
	db, err := badger.OpenManaged(indexOptions(folder))
	if err != nil {
		return nil, err
	}
	log, err := openSyncedLog(folder)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &diskCommitter{db: db, log: log, version: db.MaxVersion()}, nil
}

func (c *diskCommitter) close() error { return errors.Join(c.db.Close(), c.log.close()) }

func (c *diskCommitter) run(calls <-chan diskCall, socket io.Writer) error {
	var answers []byte
	for first := range calls {
		group := gather(first, calls)
		if err := c.commit(group); err != nil {
			return err
		}
		answers = answers[:0]
		for _, call := range group {
			answers = binary.BigEndian.AppendUint32(answers, call.id)
		}
		if _, err := socket.Write(answers); err != nil {
			return err
		}
	}
	return nil
}

// gather takes what waits, without waiting for more.
func gather(first diskCall, calls <-chan diskCall) []diskCall {
	group, size := []diskCall{first}, logBytes(first.records)
	for size < diskGroupBytes {
		select {
		case call, ok := <-calls:
			if !ok {
				return group
			}
			group, size = append(group, call), size+logBytes(call.records)
		default:
			return group
		}
	}
	return group
}

// commit writes the calls of a group in one transaction and returns when it is on disk.
func (c *diskCommitter) commit(group []diskCall) error {
	c.version++
	txn := c.db.NewTransactionAt(c.version, true)
	defer txn.Discard()
	messages := 0
	for _, call := range group {
		messages += len(call.records)
		if err := setAll(txn, call.records); err != nil {
			return err
		}
	}
	if err := setAll(txn, []record{groupRecord(c.version, messages)}); err != nil {
		return err
	}
	if err := txn.CommitAt(c.version, nil); err != nil {
		return err
	}
	return c.log.sync()
}

func setAll(txn *badger.Txn, records []record) error {
	for _, r := range records {
		if err := txn.Set(r.key, r.value); err != nil {
			return err
		}
	}
	return nil
}

// A syncedLog puts Badger's commits on disk: one fdatasync of its newest log. (Badger's own WithSyncWrites syncs its
// value log too, which is empty.)
type syncedLog struct {
	folder string
	number int
	file   *os.File
}

func openSyncedLog(folder string) (*syncedLog, error) {
	l := &syncedLog{folder: folder}
	logs, err := filepath.Glob(filepath.Join(folder, "*.mem"))
	if err != nil {
		return nil, err
	}
	for _, log := range logs {
		n := 0
		if _, err := fmt.Sscanf(filepath.Base(log), "%d.mem", &n); err == nil {
			l.number = max(l.number, n)
		}
	}
	l.file, err = l.open(l.number)
	return l, err
}

func (l *syncedLog) open(number int) (*os.File, error) {
	return os.OpenFile(filepath.Join(l.folder, fmt.Sprintf("%05d.mem", number)), os.O_RDWR, 0)
}

// sync is called after each commit, which lies in one log: Badger begins the next only before a commit.
func (l *syncedLog) sync() error {
	for {
		next, err := l.open(l.number + 1)
		if errors.Is(err, fs.ErrNotExist) {
			return os.NewSyscallError("fdatasync", syscall.Fdatasync(int(l.file.Fd())))
		}
		if err != nil {
			return err
		}
		if err := l.file.Close(); err != nil {
			return err
		}
		l.file, l.number = next, l.number+1
	}
}

func (l *syncedLog) close() error { return l.file.Close() }
