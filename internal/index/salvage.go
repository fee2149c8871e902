package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/badgerdir"
)

// Salvaged says what Salvage saved of an index, and what was lost.
type Salvaged struct {
	Index    Identity `json:"index"` // the new one, of a new epoch
	Messages int      `json:"messages"`
	Recalls  int      `json:"recalls"`

	// Lost are the places that could not be read. What was written there is gone.
	Lost []badgerdir.Damage `json:"lost"`

	// RecalledByLedger are messages whose recall was found in the ledger only. They are recalled.
	RecalledByLedger int `json:"recalled_by_ledger"`

	// FactsLost are recalled messages of which only the recall is left. They stay recalled, with "(lost)" as their sender.
	FactsLost int `json:"facts_lost"`

	// LedgersLost are recalled messages whose ledger is gone. They stay recalled, and nobody receives the event again.
	LedgersLost int `json:"ledgers_lost"`
}

// ErrOfNode says that an index is that of a node of a cluster.
var ErrOfNode = errors.New("index of a node of a cluster")

// Salvage creates an index from what can be read of a damaged one. It does not change the damaged one, in the folder
// from; the folder to does not exist or is empty. A message stays recalled wherever any trace of its recall is left.
// That of a node of a cluster is refused, with [ErrOfNode]: the log has everything that it holds.
func Salvage(ctx context.Context, from, to string, log hclog.Logger) (Salvaged, error) {
	out := Salvaged{}
	id, lost, err := badgerdir.Salvage(ctx, from, newBuild(to, log), isKey,
		func(db *badger.DB) error {
			if err := refuseNode(ctx, db, from); err != nil {
				return err
			}
			return mend(ctx, db, &out)
		})
	out.Index, out.Lost = id, append([]badgerdir.Damage{}, lost...)
	return out, err
}

// refuseNode refuses what has any key that only the index of a node has.
func refuseNode(ctx context.Context, db *badger.DB, from string) error {
	txn := db.NewTransactionAt(db.MaxVersion(), false)
	defer txn.Discard()
	for _, kind := range []byte(nodeKinds) {
		err := each(ctx, txn, newKey(kind), nil, func(*badger.Item) (bool, error) {
			return false, fmt.Errorf("%s: %w: remove the folder and start the plugin, which fills it from the log",
				from, ErrOfNode)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// isKey reports whether the index keeps a key. Padding is not worth keeping.
func isKey(k []byte) bool {
	return len(k) >= 2 && k[1] == '/' && strings.IndexByte(keyKinds, k[0]) >= 0 && !bytes.Equal(k, paddingKey)
}
