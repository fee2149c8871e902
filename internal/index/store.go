package index

import (
	"context"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// get reads the value of a key; found reports whether there is one.
func get(txn *badger.Txn, k key, into proto.Message) (found bool, err error) {
	item, err := find(txn, k)
	if item == nil {
		return false, err
	}
	return true, decode(item, into)
}

// find returns nil if there is no such key.
func find(txn *badger.Txn, k key) (*badger.Item, error) {
	item, err := txn.Get(k)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", k, err)
	}
	return item, nil
}

func countKeys(txn *badger.Txn, prefix key) (n int64, err error) {
	err = each(context.Background(), txn, prefix, nil, func(*badger.Item) (bool, error) {
		n++
		return true, nil
	})
	return n, err
}

func decode(item *badger.Item, into proto.Message) error {
	err := item.Value(func(data []byte) error { return proto.Unmarshal(data, into) })
	if err != nil {
		return fmt.Errorf("%w: value of %q: %w", ErrCorrupt, item.Key(), err)
	}
	return nil
}

func set(txn *badger.Txn, k key, value proto.Message) error {
	data, err := encode(value)
	if err != nil {
		return err
	}
	return txn.Set(k, data)
}

// encode returns a value as the index keeps it. It is deterministic, maps included.
func encode(value proto.Message) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(value)
}

// readRecord returns nil for an unknown message.
func readRecord(txn *badger.Txn, tenant, id string) (*Record, error) {
	return recordAt(txn, messageKey(tenant, id), tenant, id)
}

// recordAt is readRecord for a key that the caller has already. An unknown message, as every new one is, costs no
// record: two allocations and 220 bytes less.
func recordAt(txn *badger.Txn, k key, tenant, id string) (*Record, error) {
	item, err := find(txn, k)
	if item == nil {
		return nil, err
	}
	var pb indexpb.Record
	if err := decode(item, &pb); err != nil {
		return nil, err
	}
	return decodeRecord(tenant, id, &pb), nil
}

// mustGet reads a value of an event. It is damage if there is none.
func mustGet(txn *badger.Txn, k key, into proto.Message, sequence uint64) error {
	found, err := get(txn, k, into)
	if err == nil && !found {
		err = missing(sequence, k)
	}
	return err
}

func missing(sequence uint64, k key) error {
	return fmt.Errorf("%w: event %d lacks %q", ErrCorrupt, sequence, k)
}

// readEvent reads the event of a ledger entry, with the facts of its message.
func readEvent(txn *badger.Txn, tenant, recallID string, entry *indexpb.Entry) (shared.Event, error) {
	rec, err := readRecord(txn, tenant, entry.MessageId)
	if err != nil {
		return shared.Event{}, err
	}
	if rec == nil {
		return shared.Event{}, missing(entry.Sequence, messageKey(tenant, entry.MessageId))
	}
	return decodeEvent(recallID, rec.Message, entry), nil
}
