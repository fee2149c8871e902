package badgerdir

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
	"google.golang.org/protobuf/encoding/protowire"
)

// A table of Badger, as its builder writes it: blocks one after the other, then
//
//	index, its size, the checksum of the index, the size of that checksum
//
// and each block ends with its own checksum and the size of that. Sizes are four bytes, big-endian. The index says
// where each block begins. (badger v4.9.6: table/builder.go, table/table.go)
//
// Badger reads a block whose checksum is wrong as if it held no key, in reads and in compactions. So this package reads
// every table before Badger opens it.

// tableFacts are the size of a table, the highest version in it, and a checksum of all of it.
type tableFacts struct {
	sum        uint64 // of the checksums of its index and of all its blocks
	size       int64
	maxVersion uint64
}

// tableBlock is where a block is, and its first key with the version.
type tableBlock struct {
	offset, size int64
	key          []byte
}

// readChunk is how much of a table is read at a time.
const readChunk = 1 << 20

// checkTable reads a whole table. Damage is in found, including what the disk cannot read; err is any other failure.
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
	buffer := make([]byte, readChunk)
	for i := 0; i < len(blocks); {
		size, n := int64(0), 0
		for i+n < len(blocks) && (n == 0 || size+blocks[i+n].size <= readChunk) {
			size, n = size+blocks[i+n].size, n+1
		}
		if size > int64(len(buffer)) {
			buffer = make([]byte, size)
		}
		data := buffer[:size]
		if _, err := f.ReadAt(data, blocks[i].offset); err != nil {
			return facts, found, fmt.Errorf("read %s: %w", path, err)
		}
		for _, b := range blocks[i : i+n] {
			sum, why := blockSum(data[:b.size], compression)
			if why != "" {
				found = append(found, Damage{File: name, Offset: b.offset, Problem: why})
			}
			facts.add(sum)
			data = data[b.size:]
		}
		i += n
	}
	return facts, found, nil
}

// add takes the checksum of a part into that of the table.
func (t *tableFacts) add(sum uint64) {
	var both [16]byte
	binary.LittleEndian.PutUint64(both[:], t.sum)
	binary.LittleEndian.PutUint64(both[8:], sum)
	t.sum = xxhash.Sum64(both[:])
}

// readTableIndex reads the index of a table. It returns no blocks if the index is damaged.
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
	rest, sum, ok := cutChecksum(footer)
	if !ok || len(rest) < 4 {
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
	if !sum.is(data) {
		return bad(end-size, "the index of the table has a wrong checksum")
	}
	facts.add(sum.sum)
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

// blockSum returns the checksum of a block, and why the block is damaged; "" if it is whole.
func blockSum(data []byte, compression options.CompressionType) (sum uint64, why string) {
	if compression == options.Snappy { // as the tables of an early version are
		plain, err := snappy.Decode(nil, data)
		if err != nil {
			return 0, "the block cannot be decompressed"
		}
		data = plain
	}
	rest, checksum, ok := cutChecksum(data)
	switch {
	case !ok:
		return 0, "the checksum of the block is damaged"
	case !checksum.is(rest):
		return checksum.sum, "the block has a wrong checksum"
	}
	return checksum.sum, ""
}

// tableChecksum is a pb.Checksum of Badger.
type tableChecksum struct {
	algorithm pb.Checksum_Algorithm
	sum       uint64
}

func (c tableChecksum) is(data []byte) bool { return y.CalculateChecksum(data, c.algorithm) == c.sum }

// cutChecksum cuts the checksum from the end of data. Every four kilobytes have one, so it is read without the
// allocations of package proto.
func cutChecksum(data []byte) (rest []byte, c tableChecksum, ok bool) {
	rest, message, ok := cutSized(data)
	for ok && len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 || kind != protowire.VarintType {
			return nil, c, false
		}
		value, m := protowire.ConsumeVarint(message[n:])
		if m < 0 {
			return nil, c, false
		}
		switch field {
		case 1:
			c.algorithm = pb.Checksum_Algorithm(value)
		case 2:
			c.sum = value
		}
		message = message[n+m:]
	}
	return rest, c, ok && pb.Checksum_Algorithm_name[int32(c.algorithm)] != ""
}

// cutSized cuts a part and its size from the end of data.
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

// tableReaders is how many tables are read at a time.
func tableReaders() int { return max(1, runtime.GOMAXPROCS(0)) }
