package badgerdir

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/ristretto/v2/z"
	"google.golang.org/protobuf/proto"
)

// A backup is every key of a database at one version. It begins with backupMagic, followed by frames:
//
//	size and CRC-32C of what follows (4 bytes each, big-endian), kind, data
//
// The first frame is a [BackupHeader], the last one a backupEnd, both as JSON. Those between are lists of keys in their
// order (badger's pb.KVList). A backup without its last frame is incomplete.
const (
	backupMagic      = "recall-backup 1\n"
	backupFrameBytes = 256 << 10
	maxBackupFrame   = 16 << 20

	frameHeader = 'h'
	frameKeys   = 'k'
	frameEnd    = 'e'
)

// BackupHeader says what a backup holds.
type BackupHeader struct {
	Format  int       `json:"format"` // of the keys and values, see Dir.Backup
	Index   Identity  `json:"index"`
	Created time.Time `json:"created"`
}

// backupEnd says that a backup is whole.
type backupEnd struct {
	Keys uint64 `json:"keys"`
}

// Backup writes one version of the database, while it goes on serving: every commit before the call, and none after it.
// begin reads that version, and returns what it is written to. Backup keeps the files of that version on disk until it
// returns. format is the version of the caller's format of keys and values, for [BackupHeader].
func (d *Dir) Backup(ctx context.Context, format int, begin func(txn *badger.Txn) (io.Writer, error)) error {
	return d.BackupOf(ctx, format, begin, backupKeys)
}

// Put puts a key into a backup, with the version of the database at which it was written. Keys come in their order.
type Put func(key, value []byte, version uint64) error

// BackupOf is Backup with the keys that keys makes of those of the database.
func (d *Dir) BackupOf(
	ctx context.Context, format int, begin func(txn *badger.Txn) (io.Writer, error),
	keys func(ctx context.Context, txn *badger.Txn, put Put) error,
) error {
	if err := d.Failure(); err != nil {
		return err
	}
	version, leave, err := d.use()
	if err != nil {
		return err
	}
	defer leave()
	id := d.identity
	id.Version = version
	err = d.Guard(func() error {
		txn := d.db.NewTransactionAt(version, false)
		defer txn.Discard()
		w, err := begin(txn)
		if err != nil {
			return err
		}
		out := &backupWriter{w: bufio.NewWriterSize(w, backupFrameBytes)}
		out.header(BackupHeader{Format: format, Index: id, Created: time.Now().UTC().Truncate(time.Second)})
		if err := keys(ctx, txn, out.key); err != nil {
			return err
		}
		return out.end()
	})
	if err != nil {
		return fmt.Errorf("back up index %s: %w", d.path, err)
	}
	return nil
}

func backupKeys(ctx context.Context, txn *badger.Txn, put Put) error {
	it := txn.NewIterator(badger.IteratorOptions{})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		value, err := item.ValueCopy(nil)
		if err != nil {
			return err
		}
		if err := errors.Join(ctx.Err(), put(item.KeyCopy(nil), value, item.Version())); err != nil {
			return err
		}
	}
	return nil
}

// backupWriter writes the frames of a backup. It keeps its first error.
type backupWriter struct {
	w     *bufio.Writer
	list  pb.KVList
	bytes int
	keys  uint64
	err   error
}

func (b *backupWriter) frame(kind byte, data []byte) {
	if b.err != nil {
		return
	}
	frame := append([]byte{kind}, data...)
	head := binary.BigEndian.AppendUint32(nil, uint32(len(frame)))
	head = binary.BigEndian.AppendUint32(head, crc32.Checksum(frame, castagnoli))
	_, err := b.w.Write(head)
	if err == nil {
		_, err = b.w.Write(frame)
	}
	b.err = err
}

func (b *backupWriter) json(kind byte, v any) {
	data, err := json.Marshal(v)
	if b.err == nil {
		b.err = err
	}
	b.frame(kind, data)
}

func (b *backupWriter) header(h BackupHeader) {
	_, b.err = b.w.WriteString(backupMagic)
	b.json(frameHeader, h)
}

func (b *backupWriter) key(key, value []byte, version uint64) error {
	b.list.Kv = append(b.list.Kv, &pb.KV{Key: key, Value: value, Version: version})
	b.keys++
	if b.bytes += len(key) + len(value); b.bytes >= backupFrameBytes {
		b.flush()
	}
	return b.err
}

func (b *backupWriter) flush() {
	data, err := proto.Marshal(&b.list)
	if b.err == nil {
		b.err = err
	}
	b.frame(frameKeys, data)
	b.list.Kv, b.bytes = b.list.Kv[:0], 0
}

func (b *backupWriter) end() error {
	b.flush()
	b.json(frameEnd, backupEnd{Keys: b.keys})
	if b.err == nil {
		b.err = b.w.Flush()
	}
	return b.err
}

// Backup is a backup that is read.
type Backup struct {
	Header BackupHeader
	Keys   uint64 // read so far

	r *bufio.Reader
}

// errBackup says that a file is no whole backup.
var errBackup = errors.New("the backup is damaged or incomplete")

// ReadBackup reads the header of a backup.
func ReadBackup(r io.Reader) (*Backup, error) {
	b := &Backup{r: bufio.NewReaderSize(r, backupFrameBytes)}
	magic := make([]byte, len(backupMagic))
	if err := b.read(magic); err != nil && !errors.Is(err, errBackup) {
		return nil, err
	} else if string(magic) != backupMagic {
		return nil, errors.New("this is no backup of an index: write one with Host.Backup")
	}
	kind, data, err := b.frame()
	if err == nil && (kind != frameHeader || json.Unmarshal(data, &b.Header) != nil) {
		err = fmt.Errorf("%w: it has no header", errBackup)
	}
	return b, err
}

// read fills data from the backup.
func (b *Backup) read(data []byte) error {
	_, err := io.ReadFull(b.r, data)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: it ends early, after %d keys", errBackup, b.Keys)
	case err != nil:
		return fmt.Errorf("read the backup: %w", err)
	}
	return nil
}

func (b *Backup) frame() (kind byte, data []byte, err error) {
	head := make([]byte, 8)
	if err := b.read(head); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head)
	if size == 0 || size > maxBackupFrame {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes after %d keys", errBackup, size, b.Keys)
	}
	frame := make([]byte, size)
	if err := b.read(frame); err != nil {
		return 0, nil, err
	}
	if crc32.Checksum(frame, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return 0, nil, fmt.Errorf("%w: a frame has a wrong checksum after %d keys", errBackup, b.Keys)
	}
	return frame[0], frame[1:], nil
}

// next returns the next list of keys; nil at the end of a whole backup.
func (b *Backup) next() (*pb.KVList, error) {
	kind, data, err := b.frame()
	if err != nil {
		return nil, err
	}
	switch kind {
	case frameKeys:
		var list pb.KVList
		if err := proto.Unmarshal(data, &list); err != nil {
			return nil, fmt.Errorf("%w: %w", errBackup, err)
		}
		b.Keys += uint64(len(list.Kv))
		return &list, nil
	case frameEnd:
		var end backupEnd
		if json.Unmarshal(data, &end) != nil || end.Keys != b.Keys {
			return nil, fmt.Errorf("%w: it has %d keys and its end says %d", errBackup, b.Keys, end.Keys)
		}
		return nil, nil
	}
	return nil, fmt.Errorf("%w: a frame of kind %q", errBackup, kind)
}

// Each visits the keys of a backup, in their order. It fails if the backup is damaged or incomplete.
func (b *Backup) Each(ctx context.Context, visit func(key, value []byte) error) error {
	for {
		list, err := b.next()
		if err := errors.Join(err, ctx.Err()); err != nil || list == nil {
			return err
		}
		for _, kv := range list.Kv {
			if err := visit(kv.Key, kv.Value); err != nil {
				return err
			}
		}
	}
}

// Restore puts the keys of a backup into a database that to creates: of the ID of [Build.Identity], or that in the
// header if it is empty. progress is called with the number of keys so far; it may be nil.
func (b *Backup) Restore(ctx context.Context, to Build, progress func(keys uint64)) (Identity, error) {
	id := b.Header.Index
	id.ID = cmp.Or(to.Identity.ID, id.ID)
	to.Identity = id
	return to.run(ctx, func(db *badger.DB, checkSpace func() error) error {
		stream := db.NewStreamWriter()
		if err := stream.Prepare(); err != nil {
			return err
		}
		if err := b.restoreKeys(ctx, stream, checkSpace, progress); err != nil {
			stream.Cancel()
			return err
		}
		return stream.Flush()
	})
}

func (b *Backup) restoreKeys(
	ctx context.Context, stream *badger.StreamWriter, checkSpace func() error, progress func(keys uint64),
) error {
	for {
		list, err := b.next()
		if err != nil || list == nil {
			return err
		}
		if err := errors.Join(ctx.Err(), checkSpace()); err != nil {
			return err
		}
		buf := z.NewBuffer(2*backupFrameBytes, "restore")
		for _, kv := range list.Kv {
			kv.StreamId = 1
			badger.KVToBuffer(kv, buf)
		}
		err = stream.Write(buf)
		if err := errors.Join(err, buf.Release()); err != nil {
			return err
		}
		if progress != nil {
			progress(b.Keys)
		}
	}
}
