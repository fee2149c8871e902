package index

import (
	"context"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index/indexpb"
)

// Compact writes the index into new files, while it goes on serving. When the index is closed, they take its place: see
// [badgerdir.Dir.Compact]. They have no byte of what was forgotten, deleted or replaced before the call. The index
// keeps its identity and its epoch, so cursors stay valid.
func (x *Index) Compact(ctx context.Context, progress func(keys uint64)) error {
	build := newBuild(x.path, x.logger)
	build.Identify = func(txn *badger.Txn, _ string, _ []string) (Identity, error) {
		id := x.Identity()
		if err := set(txn, formatKey, &indexpb.Format{Version: Format}); err != nil {
			return Identity{}, err
		}
		return id, set(txn, identityKey, &indexpb.Identity{Id: id.ID, Epoch: id.Epoch})
	}
	return x.dir.Compact(ctx, build, progress)
}

// IsCompacted reports whether new files of the index are complete, and take its place when it is closed.
func (x *Index) IsCompacted() bool { return x.dir.IsCompacted() }
