package index

import (
	"crypto/rand"
	"encoding/hex"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/badgerdir"
	"github.com/chat-recall/recall/internal/index/indexpb"
)

// Identity names an index, its epoch, and how far it has come.
type Identity = badgerdir.Identity

// Identity returns the identity of the index, with the version of its last commit.
func (x *Index) Identity() Identity { return x.dir.Identity() }

// Version is that of the last commit.
func (x *Index) Version() uint64 { return x.dir.Version() }

// setIdentity writes the format of the index and its identity: of this ID, or a new one if it is empty, and of an epoch
// that differs from all of epochs.
func setIdentity(txn *badger.Txn, id string, epochs []string) (Identity, error) {
	if id == "" {
		id = newID(16)
	}
	epoch := newEpoch(epochs...)
	if err := set(txn, formatKey, &indexpb.Format{Version: Format}); err != nil {
		return Identity{}, err
	}
	return Identity{ID: id, Epoch: epoch}, set(txn, identityKey, &indexpb.Identity{Id: id, Epoch: epoch})
}

// newID returns a random id of n bytes, in hex.
func newID(n int) string {
	id := make([]byte, n)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	return hex.EncodeToString(id)
}

// newEpoch returns an epoch that differs from others.
func newEpoch(others ...string) string {
	for {
		if epoch := newID(8); !slices.Contains(others, epoch) {
			return epoch
		}
	}
}
