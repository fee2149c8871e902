package badgerdir

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/dgraph-io/badger/v4/y"
)

// The write-ahead log of a memtable, as Badger writes it: a header, then entries of
//
//	meta, user meta, uvarint key size, uvarint value size, uvarint expiry, key, value, CRC-32C of all before
//
// then zeros to the end. The last entry of a transaction is its mark. (badger v4.9.6: memtable.go, structs.go, txn.go)
const (
	logHeaderBytes = 20
	logMaxKeyBytes = 1 << 16
	logTxnMeta     = 1 << 6 // of an entry that a mark follows
	logMarkMeta    = 1 << 7
	logMarkKey     = "!badger!txn"
	logMarkHead    = 5 // bytes of a mark before its key: each of its sizes is below 128
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// logFacts is what a log holds.
type logFacts struct {
	size    int64  // of the file
	end     int64  // of its last whole transaction; Badger drops what follows
	first   uint64 // version of its first transaction, 0 where there is none
	version uint64 // of its last whole one
}

// checkLog reads a log and looks for damage that Badger takes for its end, dropping the rest without an error.
func checkLog(path string) (logFacts, *Damage, error) {
	f, err := os.Open(path)
	if err != nil {
		return logFacts{}, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return logFacts{}, nil, err
	}
	data, err := readLog(f, info.Size())
	if err != nil {
		return logFacts{}, nil, fmt.Errorf("read %s: %w", path, err)
	}
	facts, at, why := inspectLog(data, int(info.Size()))
	if why != "" {
		return facts, &Damage{File: filepath.Base(path), Offset: int64(at), Problem: why}, nil
	}
	return facts, nil, nil
}

// logChunk is how much of a log is read at a time, and logGap how many zeros behind its last entry are taken for its
// end.
const (
	logChunk = 1 << 20
	logGap   = 64 << 10
)

// readLog reads a log up to its end, which zeros follow. The rest is allocated, and reading it would take longer than
// what is written: tens of milliseconds, while calls wait. If anything else follows the last entry, all of the log is
// read.
func readLog(f *os.File, size int64) ([]byte, error) {
	var data []byte
	for at := logHeaderBytes; int64(len(data)) < size; {
		n := len(data)
		data = append(data, make([]byte, min(logChunk, size-int64(n)))...)
		read, err := f.ReadAt(data[n:], int64(n))
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if data = data[:n+read]; errors.Is(err, io.EOF) { // Badger has emptied it meanwhile, to remove it
			return data, nil
		}
		more := false
		for at < len(data) {
			e, beyond := parseLogEntry(data[at:])
			if more = beyond; e.size == 0 {
				break
			}
			at += e.size
		}
		rest := data[min(at, len(data)):]
		switch {
		case more || len(rest) < logGap:
		case len(bytes.TrimLeft(rest[:logGap], "\x00")) == 0:
			return data[:at], nil
		default:
			return readWritten(f, size)
		}
	}
	return data, nil
}

// Arguments of lseek: the start of data, and its end. (Linux, <linux/fs.h>)
const (
	seekData = 3
	seekHole = 4
)

// readWritten reads a file up to the end of its data: the rest is a hole, which reads as zeros. A log is mostly a hole.
// It is not mapped into memory, because reading a hole allocates blocks on some file systems, and a page without a
// block raises SIGBUS.
func readWritten(f *os.File, size int64) ([]byte, error) {
	end, err := written(f, size)
	if err != nil {
		return nil, err
	}
	data := make([]byte, end)
	n, err := f.ReadAt(data, 0)
	if errors.Is(err, io.EOF) { // Badger has emptied it meanwhile, to remove it
		err = nil
	}
	return data[:n], err
}

// written returns where the data in a file ends.
func written(f *os.File, size int64) (end int64, err error) {
	for at := int64(0); at < size; {
		from, err := f.Seek(at, seekData)
		if errors.Is(err, syscall.ENXIO) {
			break // only a hole is left
		}
		if err != nil {
			return 0, err
		}
		if at, err = f.Seek(from, seekHole); err != nil {
			return 0, err
		}
		end = min(at, size)
	}
	return end, nil
}

// inspectLog returns what a log holds, and where it is damaged other than by a crash; why is "" if it is not.
//
// data is what is written of it; the rest up to size is zero.
//
// Transactions are written one at a time, and each is synced before the next. So a crash tears only the last one, with
// at most its own mark after the tear: two marks there belong to transactions that were acknowledged. And a log is
// longer than what is written until Badger cuts it to its whole transactions, so a log that ends within a transaction
// was cut by something else. A log cut just after a mark, or damaged in its very last transaction, looks whole here.
// Then the version in the marker tells, or a gap before the next log (see found.check, surveyor.gaps).
func inspectLog(data []byte, size int) (facts logFacts, at int, why string) {
	facts.size = int64(size)
	if size < logHeaderBytes {
		return facts, 0, "it is cut within its header"
	}
	whole := logHeaderBytes // the end of the last whole transaction
	defer func() { facts.end = int64(whole) }()
	for at = whole; at < len(data); {
		e, beyond := parseLogEntry(data[at:])
		if beyond && len(data) == size {
			return facts, at, "it is cut within an entry"
		}
		if e.size == 0 {
			break
		}
		at += e.size
		if e.mark || e.meta&logTxnMeta == 0 {
			whole, facts.version = at, max(facts.version, e.version())
			if facts.first == 0 {
				facts.first = e.version()
			}
		}
	}
	if at == size && whole < at {
		return facts, whole, "it is cut within a transaction"
	}
	marks := 0
	for rest := at; ; rest += len(logMarkKey) {
		i := bytes.Index(data[min(rest, len(data)):], []byte(logMarkKey))
		if i < 0 {
			return facts, 0, ""
		}
		if rest += i; rest-logMarkHead < at {
			continue
		}
		if e, _ := parseLogEntry(data[rest-logMarkHead:]); e.mark {
			if marks++; marks == 2 {
				return facts, at, "an entry is damaged and whole transactions follow"
			}
		}
	}
}

// logEntry is one entry of a log. Its size is 0 if there is none, or none that is whole.
type logEntry struct {
	size       int
	meta       byte
	mark       bool   // the end of a transaction
	key, value []byte // the key ends with its version
}

func (e *logEntry) version() uint64 { return y.ParseTs(e.key) }

// parseLogEntry reads the entry at the start of data; beyond says that it would end after the end of data.
func parseLogEntry(data []byte) (e logEntry, beyond bool) {
	n := 2
	var sizes [3]uint64
	for i := range sizes {
		v, w := binary.Uvarint(data[min(n, len(data)):])
		if w <= 0 {
			return logEntry{}, w == 0
		}
		sizes[i], n = v, n+w
	}
	if sizes[0] <= 8 || sizes[0] > logMaxKeyBytes || sizes[1] > 1<<30 {
		return logEntry{}, false
	}
	keyEnd := n + int(sizes[0])
	end := keyEnd + int(sizes[1])
	if end+crc32.Size > len(data) {
		return logEntry{}, true
	}
	if crc32.Checksum(data[:end], castagnoli) != binary.BigEndian.Uint32(data[end:]) {
		return logEntry{}, false
	}
	return logEntry{
		size: end + crc32.Size, meta: data[0], mark: data[0]&logMarkMeta != 0, key: data[n:keyEnd], value: data[keyEnd:end],
	}, false
}
