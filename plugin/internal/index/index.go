// Package index is the message index on Badger: what messages exist, who took which of them back, and which steps of
// those recalls are still open. One committer writes; everything else reads.
package index

import (
	"context"
	"errors"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

// Format is the format version of the index that this package reads and writes.
const Format = 1

var (
	// ErrFormat says that the index was written by a newer version.
	ErrFormat = errors.New("index of a newer format")

	// ErrLocked says that another process held the index for as long as Open was willing to wait.
	ErrLocked = errors.New("index is held by another process")

	// ErrCorrupt says that the files of the index are damaged or incomplete.
	ErrCorrupt = errors.New("index is damaged")
)

// Options say where the index is.
type Options struct {
	// Path is the folder of the index, made if it is not there. One process at a time holds it.
	Path string

	// MemtableBytes bounds what is replayed after a crash; 0 means 16 MiB.
	MemtableBytes int64

	// Logger gets what the index and Badger have to say; nil for nothing.
	Logger hclog.Logger
}

// Index is an open index. Its methods may be called side by side, also with Close: after it they answer
// shared.ErrUnavailable.
type Index struct{}

var _ Log = (*Index)(nil)

// Record is what the index knows of a message. A live one has no tombstone.
type Record struct {
	Message   shared.Message
	Tombstone *Tombstone
}

// Stats are the numbers of an index since it was opened, but for those of the disk.
type Stats struct {
	Sequence   uint64 // of the last recall, 0 before the first
	Commits    uint64 // transactions
	Operations uint64 // operations applied
	Overloads  uint64 // calls of Append refused because too much was waiting
	QueueCalls int    // calls of Append waiting
	QueueBytes int    // size of their operations
	DiskBytes  int64  // size of the files of the index, refreshed by Badger once a minute
}

// Open takes the index in a folder, waiting for its lock until ctx ends.
func Open(ctx context.Context, o Options) (*Index, error) { return nil, shared.ErrUnavailable }

// Append is Log.
func (x *Index) Append(ctx context.Context, ops []Op) ([]Result, error) { return nil, shared.ErrUnavailable }

// Close finishes and answers what is waiting and releases the folder. It may be called again.
func (x *Index) Close() error { return nil }

// Ping goes through the committer and back: one that is stuck does not answer before ctx ends. An index that can no
// longer vouch for its disk answers with the reason, and the process should be started anew.
func (x *Index) Ping(ctx context.Context) error { return shared.ErrUnavailable }

// Messages finds messages of a tenant, all in one view of the index. It returns, in order, one record an id, nil for
// an id that is unknown.
func (x *Index) Messages(tenant string, ids []string) ([]*Record, error) {
	return nil, shared.ErrUnavailable
}

// Since is shared.Recall's, of a valid request.
func (x *Index) Since(req shared.SinceRequest) (shared.SincePage, error) {
	return shared.SincePage{}, shared.ErrUnavailable
}

// Ledger is shared.Recall's.
func (x *Index) Ledger(tenant, recallID string) (shared.Ledger, error) {
	return shared.Ledger{}, shared.ErrUnavailable
}

// Entry finds the ledger entry of an event by an open step of it; nil where that step is not open. Steps and Attempt
// of its event are empty.
func (x *Index) Entry(sequence uint64, step string) (*shared.LedgerEntry, error) {
	return nil, shared.ErrUnavailable
}

// OpenSteps lists, in order, at most limit sequences after one whose events have this step open.
func (x *Index) OpenSteps(step string, after uint64, limit int) ([]uint64, error) {
	return nil, shared.ErrUnavailable
}

// Lanes lists the steps that are open in any event, in the order of their names.
func (x *Index) Lanes() ([]string, error) { return nil, shared.ErrUnavailable }

// OnOpen has f called, once a step, after each commit that opened this step for any event. f runs on the committer
// and must not block. It replaces an earlier f.
func (x *Index) OnOpen(f func(step string)) {}

// Stats tells the numbers of the index.
func (x *Index) Stats() Stats { return Stats{} }
