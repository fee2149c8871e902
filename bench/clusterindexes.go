package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index"
)

// indexReleaseTimeout is how long the plugin of a host that was killed may take to end.
const indexReleaseTimeout = 20 * time.Second

// checkIndexes kills all nodes, so that none of them leaves, and checks that their indexes have the same keys and
// values. What is of one machine alone may differ: its identity (i/) and the padding of its log (g/).
func (c *cluster) checkIndexes(ctx context.Context, r *clusterReport) error {
	for _, n := range c.all() {
		if err := n.kill(); err != nil {
			return err
		}
	}
	var contents []*indexContents
	defer func() {
		for _, x := range contents {
			x.close()
		}
	}()
	for _, n := range c.all() {
		x, err := openContents(ctx, n)
		if err != nil {
			return err
		}
		contents = append(contents, x)
	}
	keys, differ := 0, 0
	for {
		var first []byte
		for _, x := range contents {
			if key := x.key(); key != nil && (first == nil || bytes.Compare(key, first) < 0) {
				first = slices.Clone(key)
			}
		}
		if first == nil {
			break
		}
		keys++
		values := make([][]byte, len(contents))
		for i, x := range contents {
			value, err := x.take(first)
			if err != nil {
				return err
			}
			values[i] = value
		}
		for i, value := range values[1:] {
			if (value == nil) != (values[0] == nil) || !bytes.Equal(value, values[0]) {
				differ++
				r.fail(nil, "the key %q is %s on %s, and %s on %s", first, hex(values[0]), contents[0].name, hex(value),
					contents[i+1].name)
			}
		}
	}
	if keys == 0 {
		return errors.New("the indexes are empty")
	}
	r.IndexesEqual = differ == 0
	return nil
}

// hex is a value in a message; nil is a key that is missing.
func hex(value []byte) string {
	if value == nil {
		return "missing"
	}
	return fmt.Sprintf("%.100x", value)
}

// indexContents are the keys and values of an index that no plugin has open.
type indexContents struct {
	name string
	db   *badger.DB
	txn  *badger.Txn
	it   *badger.Iterator
}

func openContents(ctx context.Context, n *clusterNode) (*indexContents, error) {
	ctx, cancel := context.WithTimeout(ctx, indexReleaseTimeout)
	defer cancel()
	x, err := index.Open(ctx, index.Options{Path: n.path(indexDir)}) // what a kill left behind is repaired
	if err != nil {
		return nil, err
	}
	if err := x.Close(); err != nil {
		return nil, err
	}
	db, err := openClosed(n.path(indexDir))
	if err != nil {
		return nil, err
	}
	c := &indexContents{name: n.name, db: db, txn: db.NewTransactionAt(db.MaxVersion(), false)}
	c.it = c.txn.NewIterator(badger.IteratorOptions{PrefetchValues: true, PrefetchSize: 100})
	c.it.Rewind()
	return c, nil
}

func (c *indexContents) close() {
	c.it.Close()
	c.txn.Discard()
	_ = c.db.Close()
}

// ownKinds are the kinds of keys that differ between nodes.
const ownKinds = "ig"

// key is the next key that all nodes have; nil: there is none.
func (c *indexContents) key() []byte {
	for ; c.it.Valid(); c.it.Next() {
		if key := c.it.Item().Key(); !bytes.ContainsRune([]byte(ownKinds), rune(key[0])) {
			return key
		}
	}
	return nil
}

// take returns the value of a key, if it is the next one, and goes on to the one after it; nil: it is missing.
func (c *indexContents) take(key []byte) ([]byte, error) {
	if !bytes.Equal(c.key(), key) {
		return nil, nil
	}
	value, err := c.it.Item().ValueCopy([]byte{})
	c.it.Next()
	if value == nil {
		value = []byte{}
	}
	return value, err
}
