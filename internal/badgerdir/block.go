package badgerdir

import (
	"encoding/binary"

	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/y"
	"github.com/klauspost/compress/snappy"
)

// storedKey is a key as tables and logs store it: with its version, its value and whether it was deleted.
type storedKey struct {
	key     []byte // with its version at its end
	value   []byte
	deleted bool
}

const metaDelete = 1 << 0 // of an entry: the key is deleted (badger v4.9.6: value.go, bitDelete)

// blockKeys returns the keys of a whole block. A block is entries, the offset of each, their number and the checksum.
// An entry is the length of the prefix that its key shares with the first key of the block, the length of the rest, the
// rest, and the value. (badger v4.9.6: table/builder.go, table/iterator.go, y/iterator.go)
func blockKeys(block []byte, compression options.CompressionType) ([]storedKey, bool) {
	if compression == options.Snappy {
		plain, err := snappy.Decode(nil, block)
		if err != nil {
			return nil, false
		}
		block = plain
	}
	data, _, ok := cutSized(block)
	if !ok || len(data) < 4 {
		return nil, false
	}
	n := int(binary.BigEndian.Uint32(data[len(data)-4:]))
	offsetsAt := len(data) - 4 - 4*n
	if n <= 0 || offsetsAt < 0 {
		return nil, false
	}
	keys := make([]storedKey, n)
	var first []byte
	for i := range keys {
		at := int(binary.LittleEndian.Uint32(data[offsetsAt+4*i:]))
		end := offsetsAt
		if i+1 < n {
			end = int(binary.LittleEndian.Uint32(data[offsetsAt+4*i+4:]))
		}
		if at < 0 || at+4 > end || end > offsetsAt {
			return nil, false
		}
		shared, own := int(binary.LittleEndian.Uint16(data[at:])), int(binary.LittleEndian.Uint16(data[at+2:]))
		if shared > len(first) || at+4+own > end {
			return nil, false
		}
		key := append(append([]byte(nil), first[:shared]...), data[at+4:at+4+own]...)
		if i == 0 {
			first = key
		}
		var v y.ValueStruct
		v.Decode(data[at+4+own : end])
		keys[i] = storedKey{key: key, value: v.Value, deleted: v.Meta&metaDelete != 0}
	}
	return keys, true
}
