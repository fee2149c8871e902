package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// The physical limits of one call: there and back over a socket between two processes, and the same with a write that
// the far side puts on disk before it answers.

// wireBytes is the size of a request and of its answer, about that of a call with one message.
const wireBytes = 150

// A pingPong is a ping-pong with a second process.
type pingPong struct {
	file  string // that the far side writes to; empty: to none
	bytes int    // so many
	child *socketChild
	fd    int
}

func (w *pingPong) start(context.Context) (err error) {
	args := []string{"wire-child"}
	if w.file != "" {
		args = append(args, "--file", w.file, "--bytes", fmt.Sprint(w.bytes))
	}
	if w.child, err = startSocketChild(args...); err != nil {
		return err
	}
	w.fd = int(w.child.socket.Fd())
	err = syscall.SetNonblock(w.fd, false) // nothing stands between the caller and the kernel
	if err == nil {
		_, err = w.ping() // it is ready
	}
	if err != nil {
		return errors.Join(err, w.close())
	}
	return nil
}

func (w *pingPong) close() error { return w.child.close() }

func (w *pingPong) renew(context.Context) error { return nil }

func (w *pingPong) load() *load {
	return &load{callers: 1, per: 1, cpu: func() time.Duration { return w.child.cpu() },
		do: func(context.Context, int, int) (time.Duration, error) { return w.ping() }}
}

func (w *pingPong) ping() (time.Duration, error) {
	var buf [wireBytes]byte
	start := time.Now()
	if _, err := syscall.Write(w.fd, buf[:]); err != nil {
		return 0, os.NewSyscallError("write", err)
	}
	if err := readFull(w.fd, buf[:]); err != nil {
		return 0, err
	}
	return time.Since(start), nil
}

func readFull(fd int, buf []byte) error {
	for len(buf) > 0 {
		n, err := syscall.Read(fd, buf)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return os.NewSyscallError("read", err)
		case n == 0:
			return io.EOF
		default:
			buf = buf[n:]
		}
	}
	return nil
}

// wireChild is the far side.
func wireChild(_ context.Context, args []string) error {
	set := flag.NewFlagSet("wire-child", flag.ContinueOnError)
	path := set.String("file", "", "to write to before each answer")
	size := whole(set, "bytes", 1, 1, "written each time")
	if err := parse(set, args); err != nil {
		return err
	}
	write := func() error { return nil }
	if *path != "" {
		log, err := newZeroedLog(*path, *size)
		if err != nil {
			return err
		}
		defer log.file.Close()
		write = log.append
	}
	var buf [wireBytes]byte
	for {
		switch err := readFull(childSocket, buf[:]); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := write(); err != nil {
			return err
		}
		if _, err := syscall.Write(childSocket, buf[:]); err != nil {
			return os.NewSyscallError("write", err)
		}
	}
}

// A zeroedLog is a file whose blocks hold zeros, so that nothing but the data of a write has to reach the disk. At its
// end it begins anew.
type zeroedLog struct {
	file *os.File
	data []byte
	at   int64
}

const zeroedBytes = 32 << 20

func newZeroedLog(path string, size int) (*zeroedLog, error) {
	f, err := os.Create(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, 1<<20)
	for at := 0; at < zeroedBytes && err == nil; at += len(zeros) {
		_, err = f.Write(zeros)
	}
	if err = errors.Join(err, f.Sync()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	data := make([]byte, size)
	for i := range data {
		data[i] = 1
	}
	return &zeroedLog{file: f, data: data}, nil
}

// append writes the data and returns when it is on disk.
func (l *zeroedLog) append() error {
	if l.at+int64(len(l.data)) > zeroedBytes {
		l.at = 0
	}
	if _, err := l.file.WriteAt(l.data, l.at); err != nil {
		return err
	}
	l.at += int64(len(l.data))
	return os.NewSyscallError("fdatasync", syscall.Fdatasync(int(l.file.Fd())))
}
