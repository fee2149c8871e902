package index

import (
	"context"
	"fmt"
	"io"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/badgerdir"
	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// Snapshot writes a backup of an index that follows a log, from which another one that follows it can go on. begin is
// told how far the log is applied in it, and returns what it is written to.
func (x *Index) Snapshot(ctx context.Context, begin func(at Log) (io.Writer, error)) error {
	if x.logID == "" {
		return fmt.Errorf("%w: the index follows no log", shared.ErrUnavailable)
	}
	return x.dir.Backup(ctx, Format, func(txn *badger.Txn) (io.Writer, error) {
		at, _, err := logIn(txn)
		if err != nil {
			return nil, err
		}
		return begin(at)
	})
}

// Replace puts the index in a snapshot in the place of this one, which follows the same log and is closed before that.
// The new index keeps the id of this one, so that the node stays the one that it was. A kill at any moment leaves one
// of the two. at is the expected position of the snapshot in the log; a snapshot of another position is refused.
// progress is called with the number of keys so far; it may be nil.
func (x *Index) Replace(ctx context.Context, r io.Reader, at uint64, progress func(keys uint64)) (Restored, error) {
	return restoreInto(ctx, r, x.replacement(at), progress)
}

// replacement is what builds the index that Replace puts in the place of this one.
func (x *Index) replacement(at uint64) badgerdir.Build {
	build := newBuild(x.path, x.logger)
	build.Identity.ID, build.Release = x.Identity().ID, x.Close
	build.Identify = func(txn *badger.Txn, id string, epochs []string) (Identity, error) {
		switch is, _, err := logIn(txn); {
		case err != nil:
			return Identity{}, err
		case is.ID != x.logID:
			return Identity{}, fmt.Errorf("%w: the snapshot is of the log %q, and not of %q", ErrOtherLog, is.ID, x.logID)
		case is.Position != at:
			return Identity{}, fmt.Errorf("%w: the snapshot is of entry %d, and not of %d", ErrCorrupt, is.Position, at)
		}
		return setIdentity(txn, id, epochs)
	}
	return build
}

// RemoveUnfinished removes what [Index.Replace] left behind that was killed.
func (x *Index) RemoveUnfinished() error { return badgerdir.RemoveUnfinished(x.path) }

// logIn reads which log an index follows, and how far; follows is false for that of a single machine.
func logIn(txn *badger.Txn) (at Log, follows bool, err error) {
	var pb indexpb.Log
	if follows, err = get(txn, logKey, &pb); err != nil || !follows {
		return Log{}, false, err
	}
	at, err = decodeLog(&pb)
	return at, err == nil, err
}

func encodeLog(at Log) *indexpb.Log {
	return &indexpb.Log{Id: at.ID, Position: at.Position, Sum: at.Sum[:]}
}

func decodeLog(pb *indexpb.Log) (at Log, err error) {
	if len(pb.Sum) != len(at.Sum) || pb.Id == "" {
		return Log{}, fmt.Errorf("%w: the state of its log is that of none%s", ErrCorrupt, badgerdir.Advice)
	}
	return Log{ID: pb.Id, Position: pb.Position, Sum: [len(at.Sum)]byte(pb.Sum)}, nil
}
