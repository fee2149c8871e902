package index

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/internal/badgerdir"
	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// The index of a single machine becomes that of a cluster, and back, as a backup with other keys. Messages, recalls and
// the ledger are the same in both. What differs is who has an open step: the single machine, or nodes. In memory are
// the keys of the open steps, a few hundred bytes for each.
//
// Positions go on: the log of the cluster begins behind the last commit of the single machine, and the first commit of
// a single machine comes behind the last entry of the log. So no group of messages gets the place of another one.

// Content says what an index holds. Indexes with the same Sum have the same keys and values, but for their identity.
type Content struct {
	Messages  uint64            `json:"messages"`
	Recalls   uint64            `json:"recalls"`
	OpenSteps uint64            `json:"open_steps"` // of recalls; one that every node carries out counts for each
	Sum       [sha256.Size]byte `json:"-"`
}

// tally finds the content of an index from its keys.
type tally struct {
	Content
	sum      hash.Hash
	keys     uint64
	progress func(keys uint64) // may be nil
}

func newTally(progress func(keys uint64)) *tally {
	return &tally{sum: sha256.New(), progress: progress}
}

// progressKeys is how many keys there are between two calls of progress.
const progressKeys = 4096

func (t *tally) add(k, value []byte) {
	switch k[0] {
	case 'i', 'g': // of this index alone
		return
	case 'm':
		t.Messages++
	case 'q':
		t.Recalls++
	case 'e', 'b':
		t.OpenSteps++
	}
	addToSum(t.sum, &entry{key: k, value: value})
	if t.keys++; t.progress != nil && t.keys%progressKeys == 0 {
		t.progress(t.keys)
	}
}

func (t *tally) end() Content {
	t.sum.Sum(t.Sum[:0])
	return t.Content
}

// Content reads the whole index. progress is called with the number of keys so far; it may be nil.
func (x *Index) Content(ctx context.Context, progress func(keys uint64)) (Content, error) {
	t := newTally(progress)
	err := x.dir.View(func(txn *badger.Txn) error {
		return each(ctx, txn, nil, nil, func(item *badger.Item) (bool, error) {
			return true, item.Value(func(value []byte) error {
				t.add(item.Key(), value)
				return nil
			})
		})
	})
	return t.end(), err
}

// SnapshotContent reads what a snapshot holds, and how far the log is in it. It fails if the snapshot is damaged or
// incomplete.
func SnapshotContent(ctx context.Context, r io.Reader, progress func(keys uint64)) (Content, Log, error) {
	b, err := badgerdir.ReadBackup(r)
	if err != nil {
		return Content{}, Log{}, err
	}
	t, at := newTally(progress), Log{}
	err = b.Each(ctx, func(k, value []byte) error {
		t.add(k, value)
		if !bytes.Equal(k, logKey) {
			return nil
		}
		var pb indexpb.Log
		err := proto.Unmarshal(value, &pb)
		if err == nil {
			at, err = decodeLog(&pb)
		}
		return err
	})
	return t.end(), at, err
}

// SnapshotForCluster writes the index of a single machine to w, as a snapshot from which the nodes of a new cluster
// begin. Its log has the id, and goes on behind the version of [Index.Identity]. The first node that joins takes the
// open steps. Those that are named run the open notices, too, which they find that they missed.
func (x *Index) SnapshotForCluster(
	ctx context.Context, log string, nodes []string, w io.Writer, progress func(keys uint64),
) (Content, error) {
	if x.logID != "" {
		return Content{}, fmt.Errorf("index %s: %w already, of the log %s", x.path, ErrOfNode, x.logID)
	}
	return x.convert(ctx, w, progress, func(c *converter) error {
		return c.forCluster(Log{ID: log, Position: x.Identity().Version}, nodes)
	})
}

// Converted says what ToSingle made.
type Converted struct {
	Index   Identity `json:"index"` // the new one
	Content          // of the new one
}

// ToSingle makes the index of a single machine of that of a node, in a folder that does not exist or is empty. It has
// the id of that one, which its host knows, and a new epoch. Its steps are open that are open for any node.
func (x *Index) ToSingle(
	ctx context.Context, folder string, log hclog.Logger, progress func(keys uint64),
) (done Converted, err error) {
	if x.logID == "" {
		return Converted{}, fmt.Errorf("index %s: it is that of a single machine already", x.path)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		var err error
		done.Content, err = x.convert(ctx, w, progress, (*converter).forSingle)
		w.CloseWithError(err)
		written <- err
	}()
	b, err := badgerdir.ReadBackup(r)
	if err == nil {
		b.Header.Index.Version = max(b.Header.Index.Version, x.log.Position)
		done.Index, err = b.Restore(ctx, newBuild(folder, log), nil)
	}
	_ = r.Close() // ends the writer, if it has not come to its end
	if failed := <-written; err == nil {
		err = failed
	}
	return done, err
}

// ContentAsSingle is what an index has that ToSingle makes.
func (x *Index) ContentAsSingle(ctx context.Context, progress func(keys uint64)) (Content, error) {
	return x.convert(ctx, io.Discard, progress, (*converter).forSingle)
}

// convert writes a backup of the keys that fill puts.
func (x *Index) convert(
	ctx context.Context, w io.Writer, progress func(keys uint64), fill func(*converter) error,
) (Content, error) {
	t := newTally(progress)
	err := x.dir.BackupOf(ctx, Format, func(*badger.Txn) (io.Writer, error) { return w, nil },
		func(ctx context.Context, txn *badger.Txn, put badgerdir.Put) error {
			return fill(&converter{ctx: ctx, txn: txn, made: map[byte][]entry{}, put: func(k, v []byte, version uint64) error {
				t.add(k, v)
				return put(k, v, version)
			}})
		})
	return t.end(), err
}

// converter puts the keys of an index as they are on the other side.
type converter struct {
	ctx  context.Context
	txn  *badger.Txn
	put  badgerdir.Put
	made map[byte][]entry // by kind: those that are put in the place of all of the kind
}

// add adds a key that is put with the others of its kind; value may be nil.
func (c *converter) add(k key, value proto.Message) error {
	e := entry{key: k}
	if value != nil {
		var err error
		if e.value, err = encode(value); err != nil {
			return err
		}
	}
	c.made[k[0]] = append(c.made[k[0]], e)
	return nil
}

// each visits the keys of a kind.
func (c *converter) each(kind byte, visit func(item *badger.Item) error) error {
	return each(c.ctx, c.txn, newKey(kind), nil, func(item *badger.Item) (bool, error) { return true, visit(item) })
}

// write puts all keys in their order: of these kinds those that were made, of s what putAttempts puts if it is not nil,
// and of the others what is there. Padding is left out.
func (c *converter) write(kinds string, putAttempts func() error) error {
	all := []byte(keyKinds)
	slices.Sort(all)
	for _, kind := range all {
		var err error
		switch {
		case strings.IndexByte(kinds, kind) >= 0:
			err = c.putMade(c.made[kind])
		case kind == 's' && putAttempts != nil:
			err = putAttempts()
		case kind != paddingKey[0]:
			err = c.each(kind, func(item *badger.Item) error {
				value, err := item.ValueCopy(nil)
				return errors.Join(err, c.put(item.KeyCopy(nil), value, item.Version()))
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *converter) putMade(made []entry) error {
	slices.SortFunc(made, func(a, b entry) int { return bytes.Compare(a.key, b.key) })
	for _, e := range made {
		if err := errors.Join(c.ctx.Err(), c.put(e.key, e.value, c.txn.ReadTs())); err != nil {
			return err
		}
	}
	return nil
}

// forCluster puts the keys of a single machine as those of a cluster. Its open steps are held by nobody, as are those
// of a cluster that no node carries out.
func (c *converter) forCluster(at Log, nodes []string) error {
	missed := uint64(0) // the first event whose notify is open
	for _, kind := range []byte{'e', 'b'} {
		err := c.each(kind, func(item *badger.Item) error {
			k := item.KeyCopy(nil)
			step, sequence := textAt(k, 2), lastNumber(k)
			if step == shared.StepNotify && (missed == 0 || sequence < missed) {
				missed = sequence
			}
			rest := k[len(newKey(kind).text(step)):]
			return errors.Join(
				c.add(append(newKey(kind).text(onNode(step, "")), rest...), nil),
				c.add(holdersKey(sequence, step), &indexpb.Holders{Nodes: []string{""}}))
		})
		if err != nil {
			return err
		}
	}
	if missed > 0 {
		for _, node := range nodes {
			m := &Member{
				Node: node, Epoch: at.Position, Since: at.Position, Format: OpFormat, Gone: true, Missed: missed,
			}
			if err := c.add(memberKey(node), encodeMember(m)); err != nil {
				return err
			}
		}
	}
	if err := c.add(logKey, encodeLog(at)); err != nil {
		return err
	}
	return c.write("eb"+nodeKinds, nil)
}

// forSingle puts the keys of a node as those of a single machine. It has every step open that any node has open.
func (c *converter) forSingle() error {
	err := c.each('h', func(item *badger.Item) error {
		sequence, step := numberAt(item.Key(), 2), textAt(item.Key(), 10)
		var h indexpb.Holders
		if err := decode(item, &h); err != nil {
			return err
		}
		a, err := c.openAttempts(sequence, step, &h)
		if err != nil {
			return err
		}
		return c.add(queueKey(step, sequence, a), nil)
	})
	if err != nil {
		return err
	}
	return c.write("eb"+nodeKinds, c.putAttempts)
}

// openAttempts are those that a single machine goes on with: of the node that tried most. Those of a step that is open
// again and never failed do not count.
func (c *converter) openAttempts(sequence uint64, step string, h *indexpb.Holders) (*indexpb.Attempts, error) {
	most := &indexpb.Attempts{}
	for _, node := range h.Nodes {
		k, a := attemptsKey(sequence, step), &indexpb.Attempts{}
		if h.EachNode {
			k = attemptsKey(sequence, onNode(step, node))
		}
		if _, err := get(c.txn, k, a); err != nil {
			return nil, err
		}
		if a.Position > 0 && a.Count > most.Count {
			most = a
		}
	}
	most.Queued, most.Node = false, ""
	return most, nil
}

// putAttempts puts what came of the steps of all events.
func (c *converter) putAttempts() error {
	var of stepAttempts
	err := c.each('s', func(item *badger.Item) error {
		sequence := numberAt(item.Key(), 2)
		if sequence != of.sequence {
			if err := c.putEvent(&of); err != nil {
				return err
			}
			of = stepAttempts{sequence: sequence}
		}
		a := &indexpb.Attempts{}
		err := decode(item, a)
		of.add(textAt(item.Key(), 10), a, item.Version())
		return err
	})
	return errors.Join(err, c.putEvent(&of))
}

// stepAttempts is what came of the steps of an event.
type stepAttempts struct {
	sequence uint64
	version  uint64
	steps    []string // sorted by their keys
	merged   map[string]*indexpb.Attempts
}

// add adds what came of a step, or of a step of a node. The outcome is that of the step, and what it took to get there
// that of the node that tried most.
func (s *stepAttempts) add(name string, a *indexpb.Attempts, version uint64) {
	step, _ := splitNode(name)
	s.version = max(s.version, version)
	is := s.merged[step]
	if is == nil {
		if s.merged == nil {
			s.merged = map[string]*indexpb.Attempts{}
		}
		a.Node, a.Queued = "", false
		s.steps, s.merged[step] = append(s.steps, step), a
		return
	}
	if a.Count > is.Count {
		is.Count, is.Error, is.Position = a.Count, a.Error, a.Position
	}
}

// putEvent puts what came of the steps of an event.
func (c *converter) putEvent(of *stepAttempts) error {
	slices.Sort(of.steps)
	for _, step := range of.steps {
		a := of.merged[step]
		h, err := readHolders(c.txn, of.sequence, step)
		if err == nil && h != nil {
			a, err = c.openAttempts(of.sequence, step, h)
		}
		if err != nil {
			return err
		}
		if a.Count == 0 && h != nil { // as if it was never tried
			continue
		}
		value, err := encode(a)
		if err := errors.Join(err, c.put(attemptsKey(of.sequence, step), value, of.version)); err != nil {
			return err
		}
	}
	return nil
}
