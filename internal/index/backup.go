package index

import (
	"context"
	"fmt"
	"io"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/badgerdir"
)

// Backup writes one version of the index to w, while the index goes on serving: everything that was acknowledged before
// the call, and nothing later. It keeps the files of that version on disk until it returns.
func (x *Index) Backup(ctx context.Context, w io.Writer) error {
	return x.dir.Backup(ctx, Format, func(*badger.Txn) (io.Writer, error) { return w, nil })
}

// Restored says what Restore restored.
type Restored struct {
	Backup badgerdir.BackupHeader `json:"backup"`
	Index  Identity               `json:"index"` // of a new epoch
	Keys   uint64                 `json:"keys"`
}

// Restore creates an index from a backup, in a folder that does not exist or is empty. The index has the id of the one
// that was backed up and a new epoch. progress is called with the number of keys so far; it may be nil.
func Restore(
	ctx context.Context, r io.Reader, folder string, log hclog.Logger, progress func(keys uint64),
) (Restored, error) {
	return restoreInto(ctx, r, newBuild(folder, log), progress)
}

func restoreInto(ctx context.Context, r io.Reader, to badgerdir.Build, progress func(keys uint64)) (Restored, error) {
	b, err := badgerdir.ReadBackup(r)
	if err != nil {
		return Restored{}, err
	}
	if b.Header.Format != Format {
		return Restored{}, fmt.Errorf("%w: the backup has format %d and this version knows %d; use the plugin that wrote it",
			ErrFormat, b.Header.Format, Format)
	}
	done := Restored{Backup: b.Header}
	done.Index, err = b.Restore(ctx, to, progress)
	done.Keys = b.Keys
	return done, err
}

func newBuild(folder string, log hclog.Logger) badgerdir.Build {
	return badgerdir.Build{Path: folder, MemtableBytes: DefaultMemtableBytes, Logger: log, Identify: setIdentity}
}
