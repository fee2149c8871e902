package index

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// Member is a node of the cluster: a chat server with its plugin.
type Member struct {
	Node     string
	Instance string   // of the machine's folder: two machines must not be one node
	Epoch    uint64   // position of the entry with which it joined
	Steps    []string // that one node of the cluster carries out, sorted
	EachNode []string // that every node carries out for its own clients, sorted; none of Steps
	Format   int      // the newest format of entries that it applies
	Version  string   // of its plugin
	Since    uint64   // position of the entry with which it joined as one that the cluster did not know
	Gone     bool     // it was silent for too long, or its process ended
	Missed   uint64   // the first event that it may have missed while it was gone; 0: none

	// GoneAt is when it was found to be gone, by the clock of the node that found it; zero while it is not, or unknown.
	GoneAt time.Time
}

// Join makes a process the writer of its node, and the node a member. It applies if
//   - the node is no member, and After is 0;
//   - After is the epoch of the node, and the node is gone or of the same instance;
//   - or the process is the writer already, as when it joins in several parts.
//
// A copy that comes late is none of these, and changes nothing.
type Join struct {
	Member Member // without its Epoch and the fields after Version
	After  uint64 // the epoch that the node had when this was decided, 0 for an unknown one
}

// Leave ends the membership of a node, if it is still the one of this epoch. What one node of the cluster carries out
// becomes others'. What every node carries out is not open for this one any more: its clients are not its own now.
// Unless it is forgotten, the node gets what it missed when it joins again.
type Leave struct {
	Node   string
	Epoch  uint64
	Forget bool
	At     time.Time // when the node was found to be gone; may be zero
}

// What one Join or Leave moves at most: steps, and what they write, which grows with the nodes. One that is not through
// is written again, see [Result].
const (
	maxMoved       = 200
	maxMovedBytes  = 512 << 10
	maxMovedWrites = 4000
)

// Members returns the members of the cluster as of the last entry, by node; none on a single machine.
func (x *Index) Members() (members map[string]*Member, err error) {
	err = x.dir.View(func(txn *badger.Txn) error {
		members, err = readMembers(txn)
		return err
	})
	return members, err
}

// Writer returns the process that writes for a node; 0: none does.
func (x *Index) Writer(node string) (process uint64, err error) {
	if err := CheckNode("node", node); err != nil {
		return 0, err
	}
	err = x.dir.View(func(txn *badger.Txn) error {
		var written indexpb.Written
		_, err := get(txn, writtenKey(node), &written)
		process = written.Process
		return err
	})
	return process, err
}

func readMembers(txn *badger.Txn) (map[string]*Member, error) {
	members := map[string]*Member{}
	err := each(context.Background(), txn, newKey('k'), nil, func(item *badger.Item) (bool, error) {
		var pb indexpb.Member
		if err := decode(item, &pb); err != nil {
			return false, err
		}
		m := decodeMember(textAt(item.Key(), 2), &pb)
		members[m.Node] = m
		return true, nil
	})
	return members, err
}

func encodeMember(m *Member) *indexpb.Member {
	return &indexpb.Member{
		Instance: m.Instance, Epoch: m.Epoch, Steps: m.Steps, EachNode: m.EachNode, LogFormat: uint32(m.Format),
		Version: m.Version, Gone: m.Gone, Missed: m.Missed, Since: m.Since, GoneAt: encodeTime(m.GoneAt),
	}
}

func decodeMember(node string, pb *indexpb.Member) *Member {
	return &Member{
		Node: node, Instance: pb.Instance, Epoch: pb.Epoch, Steps: pb.Steps, EachNode: pb.EachNode,
		Format: int(pb.LogFormat), Version: pb.Version, Gone: pb.Gone, Missed: pb.Missed, Since: pb.Since,
		GoneAt: decodeTime(pb.GoneAt),
	}
}

// minKeyBytes is what a key takes of a transaction at least: Badger limits the number of keys, too.
const minKeyBytes = 128

// OpeningBytes is about what an operation that opens the steps of an event writes besides [Op.Bytes]: those that every
// node carries out are in a step queue of each.
func OpeningBytes(members map[string]*Member) (bytes int) {
	for node, m := range members {
		for _, step := range m.EachNode {
			bytes += max(minKeyBytes, len(step)+len(node)+32) + len(node) + 2
		}
	}
	return bytes
}

// carriesOut reports whether the host of a node has a step.
func (m *Member) carriesOut(step string) bool {
	return slices.Contains(m.Steps, step) || slices.Contains(m.EachNode, step)
}

// isMembership reports whether an operation changes the members.
func (op *Op) isMembership() bool { return op.Join != nil || op.Leave != nil }

// applyMembership applies a Join or a Leave, one step of an event after the other: what is opened next may wait for the
// one before.
func (x *Index) applyMembership(b *batch, op *Op, w *writes) (Result, error) {
	m := &mover{batch: b, w: w}
	m.apply = func(plan func() error) error {
		err := x.applyPlan(b, w, plan)
		m.bytes, m.writes = m.bytes+w.bytes(), m.writes+len(w.entries)
		return err
	}
	if op.Join != nil {
		return m.join(op.Join)
	}
	return m.leave(op.Leave)
}

// mover changes the members and moves open steps between them, until it is full.
type mover struct {
	*batch
	w      *writes
	apply  func(plan func() error) error
	moved  int
	bytes  int64
	writes int
}

func (m *mover) isFull() bool {
	return m.moved >= maxMoved || m.bytes >= maxMovedBytes || m.writes >= maxMovedWrites
}

func (m *mover) join(j *Join) (Result, error) {
	was := m.members[j.Member.Node]
	member, err := m.joined(j, was)
	if err != nil || member == nil {
		return Result{Member: was}, err
	}
	if err := m.put(member); err != nil {
		return Result{}, err
	}
	if was != nil {
		if err := m.reopen(member); err != nil {
			return Result{}, err
		}
		if err := m.release(member, member.carriesOut); err != nil {
			return Result{}, err
		}
	}
	if err := m.adopt(member); err != nil {
		return Result{}, err
	}
	return Result{New: true, Member: member, More: m.isFull()}, m.put(member)
}

// joined is the member that a Join makes of the one that was there; nil if it does not apply.
func (m *mover) joined(j *Join, was *Member) (*Member, error) {
	if j.Member.Node != m.entry.Node { // a process joins for itself
		return nil, nil
	}
	member := j.Member
	member.Epoch, member.Since = m.entry.Position, m.entry.Position
	member.Gone, member.Missed, member.GoneAt = false, 0, time.Time{}
	if was == nil {
		if j.After != 0 || len(m.members) >= shared.MaxNodes {
			return nil, nil
		}
		return &member, nil
	}
	var written indexpb.Written
	if _, err := get(m.txn, writtenKey(member.Node), &written); err != nil {
		return nil, err
	}
	again := written.Process == m.entry.Process
	if !again && (j.After != was.Epoch || !was.Gone && was.Instance != member.Instance) {
		return nil, nil
	}
	member.Since = was.Since
	if member.Missed = was.Missed; again && !was.Gone {
		member.Epoch = was.Epoch
	}
	return &member, nil
}

func (m *mover) leave(l *Leave) (Result, error) {
	was := m.members[l.Node]
	if was == nil || was.Epoch != l.Epoch {
		return Result{}, nil // it has joined again
	}
	member := *was
	if member.Missed == 0 {
		member.Missed = m.sequence + 1
	}
	if !member.Gone {
		member.Gone, member.GoneAt = true, decodeTime(encodeTime(l.At))
	}
	if err := m.put(&member); err != nil {
		return Result{}, err
	}
	if err := m.release(&member, func(string) bool { return false }); err != nil {
		return Result{}, err
	}
	if l.Forget && !m.isFull() {
		return Result{New: true}, m.forget(member.Node)
	}
	return Result{New: true, More: m.isFull()}, m.put(&member)
}

// put writes a member.
func (m *mover) put(member *Member) error {
	return m.apply(func() error {
		kept := *member
		m.w.members = maps.Clone(m.members)
		m.w.members[member.Node] = &kept
		return m.w.set(memberKey(member.Node), encodeMember(member))
	})
}

func (m *mover) forget(node string) error {
	return m.apply(func() error {
		m.w.members = maps.Clone(m.members)
		delete(m.w.members, node)
		m.w.delete(memberKey(node))
		m.w.delete(writtenKey(node))
		return nil
	})
}

// release takes those open steps from a node that it does not keep.
func (m *mover) release(node *Member, keeps func(step string) bool) error {
	steps, err := stepsHeld(m.txn, node.Node)
	if err != nil {
		return err
	}
	for _, step := range steps {
		if keeps(step) {
			continue
		}
		err := m.move(node.Node, step, func(sequence uint64, h *indexpb.Holders) error {
			if !h.EachNode {
				return m.give(sequence, step, h, m.choose(step, sequence).Nodes[0], false, m.w)
			}
			if node.Gone {
				node.Missed = min(node.Missed, sequence)
			}
			return m.withdraw(sequence, step, node.Node, h, m.w)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// adopt gives a node the open steps that no node carries out.
func (m *mover) adopt(node *Member) error {
	for _, step := range slices.Sorted(slices.Values(slices.Concat(node.Steps, node.EachNode))) {
		err := m.move("", step, func(sequence uint64, h *indexpb.Holders) error {
			return m.give(sequence, step, h, node.Node, slices.Contains(node.EachNode, step), m.w)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// move plans the move of the events that have a step open on a node, until the mover is full.
func (m *mover) move(node, step string, plan func(uint64, *indexpb.Holders) error) error {
	held, err := m.heldOf(node, step, maxMoved-m.moved)
	if err != nil {
		return err
	}
	for _, sequence := range held {
		if m.isFull() {
			return nil
		}
		err := m.apply(func() error {
			h := &indexpb.Holders{}
			if err := mustGet(m.txn, holdersKey(sequence, step), h, sequence); err != nil {
				return err
			}
			return plan(sequence, h)
		})
		if err != nil {
			return err
		}
		m.moved++
	}
	return nil
}

// reopen opens for a node what every node carries out and what was committed while it was gone.
func (m *mover) reopen(node *Member) error {
	for ; node.Missed > 0 && node.Missed <= m.sequence && !m.isFull(); node.Missed++ {
		entry, err := m.batch.entryOf(node.Missed)
		if err == nil && entry == nil && m.forgotten == 0 {
			err = missing(node.Missed, eventKey(node.Missed))
		}
		if err != nil {
			return err
		}
		for _, s := range entry.GetSteps() { // none of an event that was forgotten
			if !isOpen(s) || !slices.Contains(node.EachNode, s.Name) {
				continue
			}
			if err := m.apply(func() error { return m.reopenStep(node.Node, node.Missed, s.Name, m.w) }); err != nil {
				return err
			}
		}
		m.moved++
	}
	if node.Missed > m.sequence {
		node.Missed = 0
	}
	return nil
}

// heldOf lists at most limit events that have a step open on a node.
func (b *batch) heldOf(node, step string, limit int) (list []uint64, err error) {
	if limit <= 0 {
		return nil, nil
	}
	queue := onNode(step, node)
	for _, prefix := range []key{stepPrefix(queue), backoffPrefix(queue)} {
		err := each(context.Background(), b.txn, prefix, nil, func(item *badger.Item) (bool, error) {
			list = append(list, lastNumber(item.Key()))
			return len(list) < limit, nil
		})
		if err != nil || len(list) >= limit {
			return list, err
		}
	}
	return list, nil
}

// Holds reports whether a node of the cluster has any step open.
func (x *Index) Holds(node string) (holds bool, err error) {
	err = x.dir.View(func(txn *badger.Txn) error {
		steps, err := stepsHeld(txn, node)
		holds = len(steps) > 0
		return err
	})
	return holds, err
}

// stepsHeld lists the steps of which a node has any open.
func stepsHeld(txn *badger.Txn, node string) (steps []string, err error) {
	for _, kind := range []byte{'e', 'b'} {
		prefix := newKey(kind)
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
		for it.Seek(prefix); it.Valid(); {
			queue := textAt(it.Item().Key(), len(prefix))
			if step, on := splitNode(queue); on == node && !slices.Contains(steps, step) {
				steps = append(steps, step)
			}
			beyond := slices.Clone(prefix).text(queue)
			beyond[len(beyond)-1]++
			it.Seek(beyond)
		}
		it.Close()
	}
	slices.Sort(steps)
	return steps, nil
}

// check refuses a member that has no place in the index.
func (j *Join) check() error {
	m := &j.Member
	if err := CheckNode("join.node", m.Node); err != nil {
		return err
	}
	seen := map[string]bool{}
	for i, step := range slices.Concat(m.Steps, m.EachNode) {
		field := fmt.Sprintf("join.steps[%d]", i)
		if err := shared.ValidateStep(field, step); err != nil {
			return err
		}
		if seen[step] {
			return shared.Invalidf(field, "%s is there twice", step)
		}
		seen[step] = true
	}
	if m.Format < 1 || m.Format > math.MaxUint8 {
		return shared.Invalidf("join.format", "is %d; 1 to %d", m.Format, math.MaxUint8)
	}
	return nil
}

// CheckNode refuses a name that is none of a node.
func CheckNode(field, node string) error {
	if node == "" || len(node) > shared.MaxNodeBytes {
		return shared.Invalidf(field, "is %d bytes long; 1 to %d", len(node), shared.MaxNodeBytes)
	}
	for i := range len(node) {
		switch c := node[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return shared.Invalidf(field, "is %q; a node is named with letters, digits, '-', '_' and '.'", node)
		}
	}
	return nil
}
