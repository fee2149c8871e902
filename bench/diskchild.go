package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"io"
	"os"
	"runtime"
	"syscall"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/badgerdir"
	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/shared"
)

type diskCall struct {
	id      uint32
	records []record
}

const (
	diskCalls      = 4096    // that may wait for the committer
	diskGroupBytes = 1 << 20 // of records, at most in one commit
)

// diskChild writes the calls that come over its socket to Badger and answers each once it is on disk. One committer
// gathers what waits into one commit.
func diskChild(ctx context.Context, args []string) error {
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
	c, err := newDiskCommitter(ctx, *folder)
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
	return errors.Join(<-read, c.Close())
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

// A diskCommitter is the only writer of a database, which it commits to as the index does.
type diskCommitter struct {
	*badgerdir.Dir
	messages []shared.Message // some, for the group of an entry
}

func newDiskCommitter(ctx context.Context, folder string) (*diskCommitter, error) {
	dir, err := badgerdir.Open(ctx, badgerdir.Options{Path: folder, MemtableBytes: index.DefaultMemtableBytes})
	if err != nil {
		return nil, err
	}
	return &diskCommitter{Dir: dir}, nil
}

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
		c.ZeroAhead()
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
	txn := c.NewTransaction(true)
	defer txn.Discard()
	n := 0
	for _, call := range group {
		n += len(call.records)
		if err := setAll(txn, call.records); err != nil {
			return err
		}
	}
	if more := n - len(c.messages); more > 0 {
		c.messages = append(c.messages, messagesFrom(int64(len(c.messages)), more)...)
	}
	if err := setAll(txn, []record{groupRecord(c.Version()+1, c.messages[:n])}); err != nil {
		return err
	}
	return c.Commit(txn)
}

func setAll(txn *badger.Txn, records []record) error {
	for _, r := range records {
		if err := txn.Set(r.key, r.value); err != nil {
			return err
		}
	}
	return nil
}
