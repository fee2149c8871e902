package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/cespare/xxhash/v2"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/y"
	"github.com/klauspost/compress/snappy"
	"google.golang.org/protobuf/proto"
)

// A table of Badger, as its builder writes it: blocks one behind the other, then
//
//	index, its size, the checksum of the index, the size of that checksum
//
// and each block ends with its own checksum and the size of that. Sizes are four bytes, big-endian. The index says where
// each block begins. (badger v4.9.6: table/builder.go, table/table.go)
//
// Badger reads a block whose checksum is wrong as if it held no key, in reads and in compactions. So the index reads every
// table itself before Badger may open it.

// tableFacts is what a table says of itself, and the hash of the whole file.
type tableFacts struct {
	sum        uint64 // xxHash64 of the file
	size       int64
	maxVersion uint64
}

// tableBlock is where a block lies, and its first key with the version.
type tableBlock struct {
	offset, size int64
	key          []byte
}

// readChunk is how much of a table is read at a time.
const readChunk = 1 << 20

// checkTable reads a whole table, whose blocks are compressed so. What is wrong with it is in found, also what the disk cannot
// read; err is of another kind.
func checkTable(path string, compression options.CompressionType) (facts tableFacts, found []Damage, err error) {
	facts, found, err = readTable(path, compression)
	if errors.Is(err, syscall.EIO) {
		return facts, append(found, Damage{File: filepath.Base(path), Offset: -1, Problem: err.Error()}), nil
	}
	return facts, found, err
}

func readTable(path string, compression options.CompressionType) (facts tableFacts, found []Damage, err error) {
	f, err := os.Open(path)
	if err != nil {
		return tableFacts{}, nil, err
	}
	defer f.Close()
	name := filepath.Base(path)
	facts, blocks, damage, err := readTableIndex(f, name)
	if damage != nil {
		found = append(found, *damage)
	}
	if err != nil {
		return facts, found, err
	}
	hash := xxhash.New()
	buffer := make([]byte, 0, readChunk)
	at := int64(0)
	next := func(size int64) ([]byte, error) {
		if size > int64(cap(buffer)) {
			buffer = make([]byte, 0, size)
		}
		data := buffer[:size]
		if _, err := io.ReadFull(f, data); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		hash.Write(data)
		at += size
		return data, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return facts, found, err
	}
	for i := 0; i < len(blocks); {
		size, n := int64(0), 0
		for i+n < len(blocks) && (n == 0 || size+blocks[i+n].size <= readChunk) {
			size, n = size+blocks[i+n].size, n+1
		}
		data, err := next(size)
		if err != nil {
			return facts, found, err
		}
		for _, b := range blocks[i : i+n] {
			if why := blockDamage(data[:b.size], compression); why != "" {
				found = append(found, Damage{File: name, Offset: b.offset, Problem: why})
			}
			data = data[b.size:]
		}
		i += n
	}
	for at < facts.size {
		if _, err := next(min(readChunk, facts.size-at)); err != nil {
			return facts, found, err
		}
	}
	facts.sum = hash.Sum64()
	return facts, found, nil
}

// readTableIndex reads the index of a table. There are no blocks where it is damaged.
func readTableIndex(f *os.File, name string) (tableFacts, []tableBlock, *Damage, error) {
	info, err := f.Stat()
	if err != nil {
		return tableFacts{}, nil, nil, err
	}
	facts := tableFacts{size: info.Size()}
	bad := func(offset int64, format string, args ...any) (tableFacts, []tableBlock, *Damage, error) {
		return facts, nil, &Damage{File: name, Offset: offset, Problem: fmt.Sprintf(format, args...)}, nil
	}
	footer := make([]byte, min(facts.size, 64))
	footerAt := facts.size - int64(len(footer))
	if _, err := f.ReadAt(footer, footerAt); err != nil && !errors.Is(err, io.EOF) {
		return facts, nil, nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	rest, checksum, ok := cutSized(footer)
	var sum pb.Checksum
	if !ok || len(rest) < 4 || proto.Unmarshal(checksum, &sum) != nil || pb.Checksum_Algorithm_name[int32(sum.Algo)] == "" {
		return bad(footerAt, "the footer of the table is damaged or cut off")
	}
	end := footerAt + int64(len(rest)) - 4
	size := int64(binary.BigEndian.Uint32(rest[len(rest)-4:]))
	if size == 0 || size > end {
		return bad(end, "the footer of the table gives its index a size of %d bytes", size)
	}
	data := make([]byte, size)
	if _, err := f.ReadAt(data, end-size); err != nil {
		return facts, nil, nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if y.CalculateChecksum(data, sum.Algo) != sum.Sum {
		return bad(end-size, "the index of the table has a wrong checksum")
	}
	index := fb.GetRootAsTableIndex(data, 0)
	facts.maxVersion = index.MaxVersion()
	blocks := make([]tableBlock, index.OffsetsLength())
	at := int64(0)
	for i := range blocks {
		var b fb.BlockOffset
		if !index.Offsets(&b, i) || int64(b.Offset()) != at || b.Len() == 0 || at+int64(b.Len()) > end-size {
			return bad(end-size, "the index of the table puts block %d where none can be", i)
		}
		blocks[i] = tableBlock{offset: at, size: int64(b.Len()), key: b.KeyBytes()}
		at += blocks[i].size
	}
	if len(blocks) == 0 || at != end-size {
		return bad(at, "the table holds data that its index does not name")
	}
	return facts, blocks, nil, nil
}

// blockDamage says what is wrong with a block; "" where it is whole.
func blockDamage(data []byte, compression options.CompressionType) string {
	if compression == options.Snappy { // as the tables of an early version are
		plain, err := snappy.Decode(nil, data)
		if err != nil {
			return "the block cannot be decompressed"
		}
		data = plain
	}
	rest, checksum, ok := cutSized(data)
	var sum pb.Checksum
	if !ok || proto.Unmarshal(checksum, &sum) != nil || pb.Checksum_Algorithm_name[int32(sum.Algo)] == "" {
		return "the checksum of the block is damaged"
	}
	if y.CalculateChecksum(rest, sum.Algo) != sum.Sum {
		return "the block has a wrong checksum"
	}
	return ""
}

// cutSized cuts from the end of data a part that its size follows.
func cutSized(data []byte) (rest, part []byte, ok bool) {
	if len(data) < 4 {
		return nil, nil, false
	}
	end := len(data) - 4
	size := int64(binary.BigEndian.Uint32(data[end:]))
	if size > int64(end) {
		return nil, nil, false
	}
	return data[:end-int(size)], data[end-int(size) : end], true
}

// tableReaders is how many tables are read side by side.
func tableReaders() int { return max(1, runtime.GOMAXPROCS(0)) }
