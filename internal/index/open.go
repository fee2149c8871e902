package index

import (
	"context"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/badgerdir"
	"github.com/chat-recall/recall/internal/index/indexpb"
)

// Open opens the index in a folder, waiting for its lock until ctx ends. Its errors name the folder: [ErrLocked],
// [ErrFormat] (nothing of the index is changed), [ErrCorrupt], or one of the operating system.
func Open(ctx context.Context, o Options) (*Index, error) {
	x, err := open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open index %s: %w", o.Path, err)
	}
	return x, nil
}

func open(ctx context.Context, o Options) (*Index, error) {
	if o.MemtableBytes == 0 {
		o.MemtableBytes = DefaultMemtableBytes
	}
	if o.MemtableBytes < minMemtableBytes {
		return nil, fmt.Errorf("a memtable of %d bytes is too small; at least %d", o.MemtableBytes, minMemtableBytes)
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	dir, err := badgerdir.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	x := &Index{path: o.Path, logger: o.Logger, dir: dir, ids: newIDFilter(), hashes: newIDFilter(),
		commitTxn: dir.Commit}
	if err := x.begin(); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	var learn context.Context
	learn, x.stopLearner = context.WithCancel(context.Background())
	if !dir.ReadOnly() {
		x.learner.Go(func() { x.learn(learn) })
	}
	return x, nil
}

// begin checks the format of the index, reads where its log ends, and identifies it: a new index gets an identity and
// its first transaction, and one that was restored from a copy gets another epoch.
func (x *Index) begin() error {
	txn := x.dir.NewTransaction(true)
	defer txn.Discard()
	var format indexpb.Format
	exists, err := get(txn, formatKey, &format)
	switch {
	case err != nil:
		return err
	case !exists && x.dir.Version() != 0:
		return fmt.Errorf("%w: it has data but no format version, so it is incomplete or another program's%s",
			ErrCorrupt, badgerdir.Advice)
	case exists && format.Version != Format:
		return fmt.Errorf("%w: its format is %d and this version knows %d; use the plugin that wrote it, or an index of "+
			"its own", ErrFormat, format.Version, Format)
	}
	next := indexpb.Counter{Next: 1}
	if exists {
		if ok, err := get(txn, sequenceKey, &next); err != nil {
			return err
		} else if !ok || next.Next == 0 {
			return fmt.Errorf("%w: it has no sequence%s", ErrCorrupt, badgerdir.Advice)
		}
	}
	x.counters = counters{
		next.Next - 1, next.Failures, next.Spent, next.Unspent, next.Relations, next.Forgotten, next.Jobs,
	}
	x.lastSequence.Store(x.sequence)
	x.lastFailure.Store(x.failures)
	x.lastRelation.Store(x.relations)
	x.lastJob.Store(x.jobs)
	x.ids.known = lastGroup(txn)
	x.ids.complete.Store(x.ids.known == 0)
	open, err := countKeys(txn, newKey('z'))
	if err != nil {
		return err
	}
	x.openCascades.Store(open)
	if err := x.waits.read(txn); err != nil {
		return err
	}
	x.hashes.complete.Store(x.forgotten == 0)
	if x.secret, err = readSecret(txn); err != nil {
		return err
	}
	x.mayForget.Store(x.secret != nil)
	if err := x.readLog(txn); err != nil {
		return err
	}
	var pb indexpb.Identity
	if _, err := get(txn, identityKey, &pb); err != nil {
		return err
	}
	id := Identity{ID: pb.Id, Epoch: pb.Epoch, Version: x.dir.Version()}
	restored, err := x.dir.Restored(id)
	if err != nil {
		return err
	}
	if id.ID == "" || restored {
		if id, err = x.newIdentity(txn, id, !exists); err != nil {
			return err
		}
	}
	if restored {
		x.logger.Warn("the index was restored from a copy, and everything after that copy is gone: recalls made since then "+
			"are not known any more, and cursors are void", "path", x.path, "id", id.ID, "epoch", id.Epoch)
	}
	if x.logID == "" {
		x.epoch = id.Epoch
	}
	return x.dir.Identify(id)
}

// newIdentity commits an identity for the index: its own ID if it has one, and a new epoch.
func (x *Index) newIdentity(txn *badger.Txn, id Identity, isNew bool) (Identity, error) {
	if err := x.dir.Writable(); err != nil {
		return Identity{}, err
	}
	if isNew {
		if err := set(txn, sequenceKey, &indexpb.Counter{Next: 1}); err != nil {
			return Identity{}, err
		}
	}
	id, err := setIdentity(txn, id.ID, append(x.dir.Epochs(), id.Epoch))
	if err != nil {
		return Identity{}, err
	}
	if err := x.dir.Commit(txn); err != nil {
		return Identity{}, fmt.Errorf("write the identity of the index: %w", err)
	}
	return id, nil
}
