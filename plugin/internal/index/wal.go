package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"syscall"
)

// The write-ahead log of a memtable, as Badger writes it: a header, then entries of
//
//	meta, user meta, uvarint key size, uvarint value size, uvarint expiry, key, value, CRC-32C of all before
//
// then zeros to the end. The last entry of a transaction is its mark. (badger v4.9.6: memtable.go, structs.go, txn.go)
const (
	logHeaderBytes = 20
	logMaxKeyBytes = 1 << 16
	logMarkMeta    = 1 << 7
	logMarkKey     = "!badger!txn"
	logMarkHead    = 5 // bytes of a mark before its key: each of its sizes is below 128
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkLog looks for damage that Badger takes for the end of a log, dropping the rest without a word.
func checkLog(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	data, err := readWritten(f, info.Size())
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if at, why := logDamage(data, int(info.Size())); why != "" {
		return fmt.Errorf("%w: %s at byte %d: %s; restore the folder from a backup",
			ErrCorrupt, filepath.Base(path), at, why)
	}
	return nil
}

// What lseek looks for: where data starts, and where it ends. (Linux, <linux/fs.h>)
const (
	seekData = 3
	seekHole = 4
)

// readWritten reads a file up to the end of what is written in it: the rest is a hole, which is zero. A log is mostly
// hole. It is not mapped into memory, because to look at a hole takes room on some disks, and a page that finds none is a
// SIGBUS.
func readWritten(f *os.File, size int64) ([]byte, error) {
	end, err := written(f, size)
	if err != nil {
		return nil, err
	}
	data := make([]byte, end)
	_, err = f.ReadAt(data, 0)
	return data, err
}

// written tells where what is written in a file ends.
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

// logDamage tells where a log is damaged other than by a crash, and how; "" where it is not.
//
// data is what is written of it; from there to its size it is zero.
//
// There is one transaction at a time, and each is synced before the next is written. So a crash tears the last one
// only, with at most its own mark after the tear: two marks there are transactions that were acknowledged. And a log
// has room for more until Badger cuts it to its whole transactions, so one that ends within a transaction was cut by
// something else. (What cannot be seen: a log cut just behind a mark, and a tear in the very last transaction.)
func logDamage(data []byte, size int) (at int, why string) {
	if size < logHeaderBytes {
		return 0, "it is cut within its header"
	}
	whole := logHeaderBytes // the end of the last whole transaction
	for at = whole; at < len(data); {
		n, mark, beyond := parseLogEntry(data[at:])
		if beyond && len(data) == size {
			return at, "it is cut within an entry"
		}
		if n == 0 {
			break
		}
		at += n
		if mark {
			whole = at
		}
	}
	if at == size && whole < at {
		return whole, "it is cut within a transaction"
	}
	marks := 0
	for rest := at; ; rest += len(logMarkKey) {
		i := bytes.Index(data[min(rest, len(data)):], []byte(logMarkKey))
		if i < 0 {
			return 0, ""
		}
		if rest += i; rest-logMarkHead < at {
			continue
		}
		if _, mark, _ := parseLogEntry(data[rest-logMarkHead:]); mark {
			if marks++; marks == 2 {
				return at, "an entry is damaged and whole transactions follow"
			}
		}
	}
}

// parseLogEntry reads the entry at the start of data. Its size is 0 where there is none, or none that is whole; beyond
// tells that it would end after the end of data.
func parseLogEntry(data []byte) (size int, mark, beyond bool) {
	n := 2
	var sizes [3]uint64
	for i := range sizes {
		v, w := binary.Uvarint(data[min(n, len(data)):])
		if w <= 0 {
			return 0, false, w == 0
		}
		sizes[i], n = v, n+w
	}
	if sizes[0] == 0 || sizes[0] > logMaxKeyBytes || sizes[1] > 1<<30 {
		return 0, false, false
	}
	end := n + int(sizes[0]) + int(sizes[1])
	if end+crc32.Size > len(data) {
		return 0, false, true
	}
	if crc32.Checksum(data[:end], castagnoli) != binary.BigEndian.Uint32(data[end:]) {
		return 0, false, false
	}
	return end + crc32.Size, data[0]&logMarkMeta != 0, false
}
