package index

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// A message may relate to others: it edits, quotes, forwards or answers them. The index has a key for each relation
// of a live message, under the message that it relates to, so that a recall finds it. A message without relations has
// none, and as long as no message has any, a recall looks for none.

// Kinds is a set of kinds of relation.
type Kinds uint8

// KindsOf returns the set of some kinds.
func KindsOf(kinds ...shared.RelationKind) (set Kinds) {
	for _, k := range kinds {
		set |= 1 << relationKinds.number[k]
	}
	return set
}

// has reports whether messages that relate so to a recalled message are recalled with it. Edits always are.
func (s Kinds) has(kind shared.RelationKind) bool {
	return (s|KindsOf(shared.RelationEdit))&KindsOf(kind) != 0
}

// With is a live message that relates to a recalled one, or to one that goes with that.
type With struct {
	Kind    shared.RelationKind
	To      string // the id of the message that it relates to
	Message shared.Message
	Stays   bool // it is not recalled

	Originals uint64 // of one that goes: see EditFacts
}

func (w *With) related() shared.Related {
	return shared.Related{Kind: w.Kind, MessageID: w.Message.ID, Conversation: w.Message.Conversation, Ref: w.Message.Ref}
}

// changedLink is a relation key that an operation changes.
type changedLink struct {
	prefix key
	suffix []byte
	there  bool
}

// link sets or deletes the keys of the relations of a message.
func (w *writes) link(m *shared.Message, there bool) {
	for _, r := range m.Relations {
		w.entries = append(w.entries, entry{key: relationKey(m.Tenant, r, m.ID), delete: !there})
		w.links = append(w.links, changedLink{
			prefix: relationPrefix(m.Tenant, r.MessageID), suffix: relationSuffix(r.Kind, m.ID), there: there,
		})
	}
}

// relations reads relation keys, and the records of the messages that they name.
type relations struct {
	txn     *badger.Txn                // for records
	base    *badger.Txn                // for keys
	changed map[string]map[string]bool // since base, as batch.links
	gone    map[string]bool            // ids that count as recalled
	tenant  string
}

// linksTo lists the suffixes of the relation keys of a message after one of them, at most limit, in their order. more
// says that there are others.
func (r *relations) linksTo(id string, after []byte, limit int) (suffixes [][]byte, more bool, err error) {
	prefix := relationPrefix(r.tenant, id)
	changed := r.changed[string(prefix)]
	from := append(slices.Clone(prefix), after...)
	err = each(context.Background(), r.base, prefix, from, func(item *badger.Item) (bool, error) {
		suffix := slices.Clone(item.Key()[len(prefix):])
		if _, is := changed[string(suffix)]; is || bytes.Equal(suffix, after) {
			return true, nil
		}
		suffixes = append(suffixes, suffix)
		return len(suffixes) <= limit, nil
	})
	for suffix, there := range changed {
		if there && suffix > string(after) {
			suffixes = append(suffixes, []byte(suffix))
		}
	}
	slices.SortFunc(suffixes, bytes.Compare)
	if len(suffixes) > limit {
		return suffixes[:limit], true, err
	}
	return suffixes, false, err
}

// live reads the record of a message; nil where it is unknown or recalled.
func (r *relations) live(id string) (*Record, error) {
	if r.gone[id] {
		return nil, nil
	}
	rec, err := readRecord(r.txn, r.tenant, id)
	if err != nil || rec == nil || rec.Tombstone != nil {
		return nil, err
	}
	return rec, nil
}

// kindOf returns the kind in a suffix of a relation key.
func kindOf(suffix []byte) indexpb.RelationKind { return indexpb.RelationKind(suffix[0]) }

// relating returns the id in a suffix of a relation key.
func relating(suffix []byte) string { return textAt(suffix, 1) }

// maxWithBytes bounds what the recalls of one operation write besides that of its first message. The rest follows in
// operations of its own.
const maxWithBytes = 384 << 10

// walked is what a walk found.
type walked struct {
	with []With

	// unfinished are the messages that have further relations, by id, and the suffix up to which they are in with.
	unfinished map[string][]byte
}

// walk finds the live messages that relate to a message, after the suffix of a relation key, and to those that go
// with it: at most [shared.MaxRelated], in the order in which they are reached. stays is asked about each message
// that would go by its kind, perhaps twice. eventBytes is about what the event of a recall takes besides its message.
func (r *relations) walk(
	root string,
	after []byte,
	cascade Kinds,
	eventBytes int,
	stays func(*With) (bool, error),
) (walked, error) {
	out := walked{}
	at := map[string]int{root: -1} // of each message, its index in out.with
	queue, size := []string{root}, 0
	for n := 0; n < len(queue); n++ {
		to := queue[n]
		if n > 0 {
			after = nil
		}
		suffixes, more, err := r.linksTo(to, after, shared.MaxRelated-len(out.with))
		if err != nil {
			return walked{}, err
		}
		for _, suffix := range suffixes {
			rec, err := r.live(relating(suffix))
			if err != nil {
				return walked{}, err
			}
			i, known := 0, false
			if rec != nil {
				i, known = at[rec.Message.ID]
			}
			if rec == nil || known && (i < 0 || !out.with[i].Stays) {
				after = suffix
				continue
			}
			with := With{Kind: relationKinds.word[kindOf(suffix)], To: to, Message: rec.Message}
			if with.Stays = !cascade.has(with.Kind); !with.Stays {
				if with.Stays, err = stays(&with); err != nil {
					return walked{}, err
				}
			}
			if with.Stays && known {
				after = suffix
				continue
			}
			if !with.Stays {
				if with.Originals, err = r.originalsOf(&with.Message); err != nil {
					return walked{}, err
				}
			}
			bytes := with.bytes(eventBytes)
			if len(out.with) > 0 && size+bytes > maxWithBytes {
				more = true
				break
			}
			if known { // it goes by another relation than the one by which it was reached first
				out.with[i] = With{}
			}
			size += bytes
			at[with.Message.ID] = len(out.with)
			out.with = append(out.with, with)
			if !with.Stays {
				queue = append(queue, with.Message.ID)
			}
			after = suffix
		}
		if more {
			if out.unfinished == nil {
				out.unfinished = map[string][]byte{}
			}
			out.unfinished[to] = after
		}
	}
	out.with = slices.DeleteFunc(out.with, func(w With) bool { return w.To == "" })
	return out, nil
}

// sameWith reports whether a walk found what was judged.
func sameWith(judged, found []With) bool {
	return slices.EqualFunc(judged, found, func(a, b With) bool {
		return a.Kind == b.Kind && a.To == b.To && a.Stays == b.Stays && a.Originals == b.Originals &&
			SameFacts(a.Message, b.Message)
	})
}

// asJudged is what a walk asks where the messages were judged before.
func asJudged(with []With) func(*With) (bool, error) {
	stays := make(map[string]bool, len(with))
	for i := range with {
		stays[with[i].Message.ID] = with[i].Stays
	}
	return func(w *With) (bool, error) {
		stay, known := stays[w.Message.ID]
		return stay || !known, nil
	}
}

// asFacts is what a walk asks where the messages are to be judged: by their facts as those of edits.
func (r *relations) asFacts(stays func(facts *shared.Message) bool) func(*With) (bool, error) {
	return func(w *With) (bool, error) {
		facts, err := r.editFacts(w.Message)
		return stays(&facts), err
	}
}

// HasRelations reports whether any message ever had a relation.
func (x *Index) HasRelations() bool { return x.lastRelation.Load() > 0 }

// FindRelated finds the messages that relate to the message of a recall, for Recall.With. gone are ids of the tenant
// that the same call recalls before it. stays is asked about each message that would go by its kind, with its
// [Index.EditFacts]; it may be asked twice.
func (x *Index) FindRelated(
	r *Recall, gone map[string]bool, stays func(facts *shared.Message) bool,
) (with []With, err error) {
	err = x.dir.View(func(txn *badger.Txn) error {
		opening, err := x.openingBytes(txn)
		if err != nil {
			return err
		}
		reads := relations{txn: txn, base: txn, gone: gone, tenant: r.Event.Tenant}
		found, err := reads.walk(r.Event.Message.ID, nil, r.Cascade, r.eventBytes()+opening, reads.asFacts(stays))
		with = found.with
		return err
	})
	return with, err
}

// maxEditChain bounds how many originals of a message are followed. A longer chain of edits is no user's.
const maxEditChain = 100

// EditFacts are what the rules judge an edited message by: when its original was sent, and the labels of the original
// and of all its edits, at most [shared.MaxRelated] of those that came after the message. originals is a sum of what
// they have from originals, by which an operation tells whether that has changed; 0: the message edits none.
func (x *Index) EditFacts(m shared.Message) (facts shared.Message, originals uint64, err error) {
	err = x.dir.View(func(txn *badger.Txn) error {
		reads := relations{txn: txn, base: txn, tenant: m.Tenant}
		if facts, err = reads.editFacts(m); err == nil {
			originals, err = reads.originalsOf(&m)
		}
		return err
	})
	return facts, originals, err
}

// editFacts are the facts of [Index.EditFacts]. Messages of gone count, too.
func (r *relations) editFacts(m shared.Message) (shared.Message, error) {
	labels := slices.Clone(m.Labels)
	err := r.originals(&m, func(_ string, rec *Record) {
		if rec == nil {
			return
		}
		labels = append(labels, rec.Message.Labels...)
		if rec.Message.SentAt.Before(m.SentAt) {
			m.SentAt = rec.Message.SentAt
		}
	})
	if err != nil {
		return m, err
	}
	all := relations{txn: r.txn, base: r.base, changed: r.changed, tenant: r.tenant}
	edits, err := all.walk(m.ID, nil, 0, 0, func(*With) (bool, error) { return false, nil })
	for i := range edits.with {
		if !edits.with[i].Stays {
			labels = append(labels, edits.with[i].Message.Labels...)
		}
	}
	m.Labels = sortedSet(labels)
	return m, err
}

// originals visits the messages that a message edits, and those that these edit in turn; nil where one is unknown.
func (r *relations) originals(m *shared.Message, visit func(id string, rec *Record)) error {
	known := map[string]bool{}
	for queue := edited(m); len(queue) > 0 && len(known) < maxEditChain; queue = queue[1:] {
		id := queue[0]
		if known[id] {
			continue
		}
		known[id] = true
		rec, err := readRecord(r.txn, r.tenant, id)
		if err != nil {
			return err
		}
		visit(id, rec)
		if rec != nil {
			queue = append(queue, edited(&rec.Message)...)
		}
	}
	return nil
}

// originalsOf is the sum of [Index.EditFacts]. It is the same on every node.
func (r *relations) originalsOf(m *shared.Message) (uint64, error) {
	var w opWriter
	err := r.originals(m, func(id string, rec *Record) {
		w.text(id)
		w.flags(rec != nil)
		if rec != nil {
			w.texts(rec.Message.Labels)
			w.number(uint64(encodeTime(rec.Message.SentAt)))
		}
	})
	if err == nil {
		err = w.err
	}
	if err != nil || len(w.b) == 0 {
		return 0, err
	}
	sum := sha256.Sum256(w.b)
	return max(binary.BigEndian.Uint64(sum[:]), 1), nil
}

// edited lists the ids of the messages that a message edits, in the order that its record has: usually one, or none.
func edited(m *shared.Message) (ids []string) {
	for _, r := range sortedRelations(m.Relations) {
		if r.Kind == shared.RelationEdit {
			ids = append(ids, r.MessageID)
		}
	}
	return ids
}

// maxRelatedSeen bounds how many relations one page of Related examines, because those of recalled messages are not
// in it.
const maxRelatedSeen = 4 * shared.MaxRelatedLimit

// Related is [shared.Recall] Related, of a valid request.
func (x *Index) Related(req shared.RelatedRequest) (shared.RelatedPage, error) {
	if err := checkTexts("related", "tenant", req.Tenant, "message_id", req.MessageID); err != nil {
		return shared.RelatedPage{}, err
	}
	if req.Limit == 0 {
		req.Limit = shared.MaxRelatedLimit
	}
	after, err := base64.RawURLEncoding.DecodeString(req.After)
	if err != nil || len(after) > 0 && (len(after) < 3 || bytes.IndexByte(after[1:], 0) != len(after)-2) {
		return shared.RelatedPage{}, shared.Invalidf("after", "%.80q is not the next of a page", req.After)
	}
	page := shared.RelatedPage{Related: []shared.Related{}}
	err = x.dir.View(func(txn *badger.Txn) error {
		reads := relations{txn: txn, base: txn, tenant: req.Tenant}
		suffixes, more, err := reads.linksTo(req.MessageID, after, maxRelatedSeen)
		if err != nil {
			return err
		}
		size := 0
		for _, suffix := range suffixes {
			if len(page.Related) == req.Limit || size > maxPageBytes {
				more = true
				break
			}
			after = suffix
			rec, err := reads.live(relating(suffix))
			if err != nil {
				return err
			}
			if rec == nil {
				continue
			}
			with := With{Kind: relationKinds.word[kindOf(suffix)], Message: rec.Message}
			page.Related = append(page.Related, with.related())
			size += messageBytes(&rec.Message)
		}
		page.More = more
		return nil
	})
	page.Next = base64.RawURLEncoding.EncodeToString(after)
	return page, err
}

// relatedTo lists the recalled messages that a live message relates to.
func (b *batch) relatedTo(m *shared.Message) (list []shared.Related, err error) {
	for _, r := range m.Relations {
		rec, err := readRecord(b.txn, m.Tenant, r.MessageID)
		if err == nil && rec == nil {
			var forgotten bool
			if forgotten, err = b.isForgotten(m.Tenant, r.MessageID); forgotten {
				rec = forgottenRecord(m.Tenant, r.MessageID)
			}
		}
		if err != nil {
			return nil, err
		}
		if rec != nil && rec.Tombstone != nil {
			with := With{Kind: r.Kind, Message: rec.Message}
			list = append(list, with.related())
		}
	}
	return list, nil
}
