package index

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/ristretto/v2/z"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/plugin/internal/index/indexpb"
)

// A backup is every key of an index at one version. It begins with backupMagic; then come frames:
//
//	size and CRC-32C of what follows (4 bytes each, big-endian), kind, data
//
// The first frame is a BackupHeader, the last one a backupEnd, both as JSON; those between are lists of keys in their
// order (badger's pb.KVList). A backup without its last frame is not whole.
const (
	backupMagic      = "recall-backup 1\n"
	backupFrameBytes = 256 << 10
	maxBackupFrame   = 16 << 20

	frameHeader = 'h'
	frameKeys   = 'k'
	frameEnd    = 'e'
)

// BackupHeader says what a backup is of.
type BackupHeader struct {
	Format  int       `json:"format"` // of the index
	Index   Identity  `json:"index"`
	Created time.Time `json:"created"`
}

// backupEnd tells that a backup is whole.
type backupEnd struct {
	Keys uint64 `json:"keys"`
}

// Backup writes one version of the index to w, while the index goes on serving: everything that was acknowledged when
// it was called, and nothing later. It keeps the files of that version on disk as long as it takes.
func (x *Index) Backup(ctx context.Context, w io.Writer) error {
	if err := x.failure(); err != nil {
		return err
	}
	version, leave, err := x.use()
	if err != nil {
		return err
	}
	defer leave()
	id := x.identity
	id.Version = version
	out := &backupWriter{w: bufio.NewWriterSize(w, backupFrameBytes)}
	out.header(BackupHeader{Format: Format, Index: id, Created: time.Now().UTC().Truncate(time.Second)})
	err = x.undamaged(func() error { return x.backupKeys(ctx, version, out) })
	if err == nil {
		err = out.end()
	}
	if err != nil {
		return fmt.Errorf("back up index %s: %w", x.path, err)
	}
	return nil
}

func (x *Index) backupKeys(ctx context.Context, version uint64, out *backupWriter) error {
	txn := x.db.NewTransactionAt(version, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		value, err := item.ValueCopy(nil)
		if err != nil {
			return err
		}
		if err := errors.Join(ctx.Err(), out.key(item.KeyCopy(nil), value, item.Version())); err != nil {
			return err
		}
	}
	return nil
}

// backupWriter writes the frames of a backup. Its first error stays.
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

// backupReader reads the frames of a backup.
type backupReader struct {
	r      *bufio.Reader
	header BackupHeader
	keys   uint64
}

// errBackup says that a file is no whole backup.
var errBackup = errors.New("the backup is damaged or incomplete")

func newBackupReader(r io.Reader) (*backupReader, error) {
	b := &backupReader{r: bufio.NewReaderSize(r, backupFrameBytes)}
	magic := make([]byte, len(backupMagic))
	if err := b.read(magic); err != nil && !errors.Is(err, errBackup) {
		return nil, err
	} else if string(magic) != backupMagic {
		return nil, errors.New("this is no backup of an index: write one with Host.Backup")
	}
	kind, data, err := b.frame()
	if err == nil && (kind != frameHeader || json.Unmarshal(data, &b.header) != nil) {
		err = fmt.Errorf("%w: it has no header", errBackup)
	}
	return b, err
}

// read fills data from the backup.
func (b *backupReader) read(data []byte) error {
	_, err := io.ReadFull(b.r, data)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: it ends early, after %d keys", errBackup, b.keys)
	case err != nil:
		return fmt.Errorf("read the backup: %w", err)
	}
	return nil
}

func (b *backupReader) frame() (kind byte, data []byte, err error) {
	head := make([]byte, 8)
	if err := b.read(head); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head)
	if size == 0 || size > maxBackupFrame {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes after %d keys", errBackup, size, b.keys)
	}
	frame := make([]byte, size)
	if err := b.read(frame); err != nil {
		return 0, nil, err
	}
	if crc32.Checksum(frame, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return 0, nil, fmt.Errorf("%w: a frame has a wrong checksum after %d keys", errBackup, b.keys)
	}
	return frame[0], frame[1:], nil
}

// next is the next list of keys, nil at the end of a whole backup.
func (b *backupReader) next() (*pb.KVList, error) {
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
		b.keys += uint64(len(list.Kv))
		return &list, nil
	case frameEnd:
		var end backupEnd
		if json.Unmarshal(data, &end) != nil || end.Keys != b.keys {
			return nil, fmt.Errorf("%w: it has %d keys and its end says %d", errBackup, b.keys, end.Keys)
		}
		return nil, nil
	}
	return nil, fmt.Errorf("%w: a frame of kind %q", errBackup, kind)
}

// Restored tells what was restored.
type Restored struct {
	Backup BackupHeader `json:"backup"`
	Index  Identity     `json:"index"` // of a new epoch
	Keys   uint64       `json:"keys"`
}

// Restore makes an index of a backup in a folder that is not there or empty. The index has the id of the one that was
// backed up and another epoch. progress, if not nil, is called with the number of keys so far.
func Restore(
	ctx context.Context, r io.Reader, folder string, log hclog.Logger, progress func(keys uint64),
) (Restored, error) {
	b, err := newBackupReader(r)
	if err != nil {
		return Restored{}, err
	}
	if b.header.Format != Format {
		return Restored{}, fmt.Errorf("%w: the backup has format %d and this version knows %d; use the plugin that wrote it",
			ErrFormat, b.header.Format, Format)
	}
	done := Restored{Backup: b.header}
	done.Index, err = build(ctx, folder, log, b.header.Index, func(db *badger.DB, room func() error) error {
		stream := db.NewStreamWriter()
		if err := stream.Prepare(); err != nil {
			return err
		}
		if err := restoreKeys(ctx, b, stream, room, progress); err != nil {
			stream.Cancel()
			return err
		}
		return stream.Flush()
	})
	done.Keys = b.keys
	return done, err
}

func restoreKeys(
	ctx context.Context, b *backupReader, stream *badger.StreamWriter, room func() error, progress func(keys uint64),
) error {
	for {
		list, err := b.next()
		if err != nil || list == nil {
			return err
		}
		if err := errors.Join(ctx.Err(), room()); err != nil {
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
			progress(b.keys)
		}
	}
}

// build makes an index beside a folder, has fill put the keys of the index id into it, and puts it in the place of the
// folder in one step. The index has a new epoch. fill is to ask for room again and again: Badger dies where it finds
// none.
func build(
	ctx context.Context, path string, log hclog.Logger, id Identity, fill func(db *badger.DB, room func() error) error,
) (Identity, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Identity{}, err
	}
	if err := isFree(path, id); err != nil {
		return Identity{}, err
	}
	folder, err := vacate(path)
	if err != nil {
		return Identity{}, err
	}
	temp := folder + ".restoring"
	if err := os.MkdirAll(temp, 0o700); err != nil {
		return Identity{}, err
	}
	unlock, err := lockClosed(temp) // another restore
	if err != nil {
		return Identity{}, err
	}
	defer unlock()
	defer os.RemoveAll(temp) // finds nothing once it is renamed
	if err := removeContents(temp); err != nil {
		return Identity{}, err
	}
	db, err := openBadger(badgerOptions(Options{Path: temp, MemtableBytes: defaultMemtableBytes, Logger: log}))
	if err != nil {
		return Identity{}, err
	}
	disk := newDiskGuard(temp, memtablesToCommit*defaultMemtableBytes) // as it takes to serve
	err = fill(db, disk.look)
	if err == nil {
		id, err = newRestore(db, id, path)
	}
	if err := errors.Join(err, db.Close(), ctx.Err()); err != nil {
		return Identity{}, err
	}
	inside, err := createMarker(filepath.Join(temp, markerFile), id)
	if err != nil {
		return Identity{}, err
	}
	if err := errors.Join(inside.close(), os.Rename(temp, folder), syncFolderOf(folder)); err != nil {
		return Identity{}, err
	}
	beside, err := createMarker(besidePath(path), id)
	if err != nil {
		log.Warn("no marker can be written beside the index", "path", besidePath(path), "error", err)
		return id, nil
	}
	return id, beside.close()
}

// vacate removes the empty folder that an index is to take the place of, if it is there. It returns where that is: path
// may be a symbolic link, which stays.
func vacate(path string) (folder string, err error) {
	folder, err = filepath.EvalSymlinks(path)
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Lstat(path); err == nil {
			return "", fmt.Errorf("%s is a link to what is not there; make the folder that it names", path)
		}
		return path, nil
	}
	if err != nil {
		return "", err
	}
	if err := os.Remove(folder); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%w; where the folder is a mount point, name a new one in it and move its files up afterwards", err)
	}
	return folder, nil
}

// removeContents empties a folder.
func removeContents(folder string) error {
	files, err := os.ReadDir(folder)
	for _, f := range files {
		err = errors.Join(err, os.RemoveAll(filepath.Join(folder, f.Name())))
	}
	return err
}

// isFree fails where something is in a folder, or another index belongs there.
func isFree(folder string, id Identity) error {
	files, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(files) > 0 {
		return fmt.Errorf("%s is not empty; move it away first, or name another folder; where it is a mount point, name a new one "+
			"in it and move its files up afterwards", folder)
	}
	beside, ok, err := readMarker(besidePath(folder))
	if err == nil && ok && beside.ID != id.ID {
		return fmt.Errorf("%s says that the index %s belongs here, and this is %s; remove that file to put it here all the same",
			besidePath(folder), beside.ID, id.ID)
	}
	return nil
}

// newRestore gives a database that was filled with an index another epoch.
func newRestore(db *badger.DB, id Identity, folder string) (Identity, error) {
	epochs := []string{id.Epoch}
	if beside, ok, err := readMarker(besidePath(folder)); err == nil && ok {
		epochs = append(epochs, beside.Epoch)
	}
	if id.ID == "" {
		id.ID = newID(16)
	}
	id.Epoch, id.Version = newEpoch(epochs...), max(id.Version, db.MaxVersion())+1
	txn := db.NewTransactionAt(id.Version-1, true)
	defer txn.Discard()
	if err := set(txn, formatKey, &indexpb.Format{Version: Format}); err != nil {
		return id, err
	}
	if err := set(txn, identityKey, &indexpb.Identity{Id: id.ID, Epoch: id.Epoch}); err != nil {
		return id, err
	}
	return id, txn.CommitAt(id.Version, nil)
}
