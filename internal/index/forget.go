package index

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/badgerdir"
	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// Forgetting erases records and all keys that belong to them. A request to forget is a key of the index until its work
// is done. Whoever does the work passes over all messages in the order of their indexing, and writes operations: each
// erases some messages of one group, and says how far the pass is. Applying one decides again whether a message is of
// the request, so an operation that comes late, or twice, erases nothing else. Recalled messages with open steps stay
// until these are settled; another pass comes to them.

// Forget is a part of the work of a request to forget, or of keep_messages. It begins the work if Key is set; else it
// changes nothing unless the work is under way.
type Forget struct {
	What shared.ForgetRequest

	// Key begins the work. It is 32 random bytes: the key of the hashes, if the index has none yet.
	Key []byte

	// Expire erases live messages that were sent before What.Before, for keep_messages. There is no work to begin.
	Expire bool

	// Messages are the ids of messages to erase, all of the group at Position. Replace are those of messages that name
	// the sender, or messages that were erased: these names are replaced.
	Position uint64
	Messages []string
	Replace  []string

	// Pass is the one that goes on, and Next and After are where, if all messages of this operation are dealt with: see
	// [ForgetWork]. EndPass ends it, and the work if nothing waits.
	Pass    uint64
	Next    Place
	After   string
	EndPass bool
	Waits   int // recalls of the request that wait for their messages, with EndPass
}

// Forgot says what a Forget did.
type Forgot struct {
	Found    bool   // the work was under way, or begun; of an Expire always
	End      uint64 // of the work, see ForgetWork: no other work of the request has the same
	Dealt    int    // with so many of Messages and Replace; the others are for another operation
	Live     int    // erased
	Recalled int    // erased
	Replaced int
	Done     bool                                   // the work is done
	Total    struct{ Live, Recalled, Replaced int } // of the work, if it is done
}

// ForgetWork is a request to forget whose work is under way.
type ForgetWork struct {
	What     shared.ForgetRequest
	End      uint64 // position of the last group that belongs to it
	Sequence uint64 // of the last recall whose actor is replaced
	Pass     uint64 // from 1
	Next     Place  // of the pass
	After    string // once the pass is beyond all groups: the message whose record it has looked at last
	Live     int    // so far
	Recalled int
	Replaced int

	// Waiting are messages with open steps, waiting recalls and running jobs: in the last whole pass, or in this one if it
	// met more.
	Waiting int
}

const (
	// MaxForgetMessages bounds the messages of one Forget.
	MaxForgetMessages = 200

	// One Forget erases messages until it has written so much, and leaves the others. A message with the largest
	// attachments writes less than maxOpBytes, and the group of an entry of the log too, so all of it fits one
	// transaction.
	maxForgetBytes  = 256 << 10
	maxForgetWrites = 4000

	// MaxForgetWorks bounds the requests whose work is under way. Each is a key, which is read several times a second.
	MaxForgetWorks = 100
)

// The kinds of requests to forget, in their keys.
const (
	forgetSender       = 's'
	forgetConversation = 'c'
	forgetBefore       = 'b'
)

func forgetKey(r *shared.ForgetRequest) key {
	k := newKey('F').text(r.Tenant)
	switch {
	case r.Sender != "":
		return append(k, forgetSender).text(r.Sender)
	case r.Conversation != (shared.Conversation{}):
		return append(k, forgetConversation, byte(conversationTypes.number[r.Conversation.Type])).text(r.Conversation.ID)
	default:
		return append(k, forgetBefore).number(uint64(encodeTime(r.Before)))
	}
}

// requestOf reads what a key of a request says.
func requestOf(k []byte) (r shared.ForgetRequest) {
	r.Tenant = textAt(k, 2)
	switch at := 2 + len(r.Tenant) + 1; k[at] {
	case forgetSender:
		r.Sender = textAt(k, at+1)
	case forgetConversation:
		r.Conversation.Type = conversationTypes.word[indexpb.ConversationType(k[at+1])]
		r.Conversation.ID = textAt(k, at+2)
	default:
		r.Before = decodeTime(int64(binary.BigEndian.Uint64(k[at+1:])))
	}
	return r
}

// forgets reports whether a message is of a request.
func forgets(r *shared.ForgetRequest, m *shared.Message) bool {
	switch {
	case m.Tenant != r.Tenant:
		return false
	case r.Sender != "":
		return m.Sender == r.Sender
	case r.Conversation != (shared.Conversation{}):
		return m.Conversation == r.Conversation
	default:
		return m.SentAt.Before(r.Before)
	}
}

// check refuses what has no place in the index.
func (f *Forget) check() error {
	if err := checkTexts("forget", "tenant", f.What.Tenant); err != nil {
		return err
	}
	set := 0
	if f.What.Sender != "" {
		set++
		if err := checkTexts("forget", "sender", f.What.Sender); err != nil {
			return err
		}
	}
	if c := f.What.Conversation; c != (shared.Conversation{}) {
		set++
		if _, ok := conversationTypes.number[c.Type]; !ok {
			return shared.Invalidf("forget.conversation.type", "unknown conversation type %q", c.Type)
		}
		if err := checkTexts("forget.conversation", "id", c.ID); err != nil {
			return err
		}
	}
	if encodeTime(f.What.Before) > 0 {
		set++
	}
	switch {
	case set != 1:
		return shared.Invalidf("forget", "%d of sender, conversation and before are set; exactly one must be", set)
	case f.Expire && encodeTime(f.What.Before) <= 0:
		return shared.Invalidf("forget.before", "is not set, or before 1970")
	case f.Waits < 0 || f.Waits > shared.MaxWaits:
		return shared.Invalidf("forget.waits", "is %d; at most %d", f.Waits, shared.MaxWaits)
	case len(f.Key) != 0 && len(f.Key) != secretBytes:
		return shared.Invalidf("forget.key", "has %d bytes; %d", len(f.Key), secretBytes)
	case len(f.Messages)+len(f.Replace) > MaxForgetMessages:
		return shared.Invalidf("forget.messages", "are %d; at most %d", len(f.Messages)+len(f.Replace), MaxForgetMessages)
	}
	for _, list := range [][]string{f.Messages, f.Replace} {
		for _, id := range list {
			if err := checkTexts("forget", "messages", id); err != nil {
				return err
			}
		}
	}
	return nil
}

// forgetter applies a Forget.
type forgetter struct {
	*batch
	dir    *badgerdir.Dir
	w      *writes
	apply  func(plan func() error) error
	of     *Forget
	work   *indexpb.Forget // nil: of an Expire
	erased map[string]bool // ids
	out    Forgot

	bytes  int64
	writes int
}

// applyForget applies a Forget, one message after the other, until it has written enough.
func (x *Index) applyForget(b *batch, op *Op, w *writes) (Result, error) {
	f := &forgetter{batch: b, dir: x.dir, w: w, of: op.Forget, erased: map[string]bool{}}
	f.apply = func(plan func() error) error {
		err := x.applyPlan(b, w, plan)
		f.bytes, f.writes = f.bytes+w.bytes(), f.writes+len(w.entries)
		return err
	}
	if len(f.of.Key) > 0 {
		x.mayForget.Store(true) // before a read can see that anything was forgotten
		err := f.apply(f.begin)
		return Result{Forgot: &f.out}, err
	}
	if !f.of.Expire {
		f.work = &indexpb.Forget{}
		if found, err := get(b.txn, forgetKey(&f.of.What), f.work); err != nil || !found {
			return Result{Forgot: &Forgot{}}, err
		}
	}
	f.out.Found, f.out.End = true, f.work.GetEnd()
	err := f.run()
	return Result{Forgot: &f.out}, err
}

// begin plans the begin of the work, and the key of the hashes.
func (f *forgetter) begin() error {
	if f.secret == nil {
		f.w.secret = f.of.Key
		if err := f.w.set(secretKey, &indexpb.ForgetKey{Key: f.of.Key}); err != nil {
			return err
		}
	}
	k, work := forgetKey(&f.of.What), &indexpb.Forget{End: f.position(), Sequence: f.sequence, Pass: 1}
	known, err := get(f.txn, k, work)
	f.out.Found, f.out.End = true, work.End
	if err != nil || known {
		return err
	}
	return f.w.set(k, work)
}

func (f *forgetter) isFull() bool { return f.bytes >= maxForgetBytes || f.writes >= maxForgetWrites }

func (f *forgetter) run() error {
	waiting := 0
	if len(f.of.Messages) > 0 {
		var listed map[string]bool
		err := f.dir.Guard(func() (err error) { listed, err = f.group(); return err })
		if err != nil {
			return err
		}
		for _, id := range f.of.Messages {
			if f.isFull() {
				break
			}
			if !listed[id] { // it was erased, and may be indexed again since
				f.out.Dealt++
				continue
			}
			waits, left, err := f.eraseMessage(id)
			if err != nil {
				return err
			}
			if left {
				break
			}
			f.out.Dealt++
			if waits {
				waiting++
			}
		}
		if len(f.erased) > 0 {
			if err := f.apply(f.shrinkGroup); err != nil {
				return err
			}
		}
	}
	for _, id := range f.of.Replace {
		if f.isFull() {
			break
		}
		f.out.Dealt++
		waits := false
		if err := f.apply(func() (err error) { waits, err = f.replace(id); return err }); err != nil {
			return err
		}
		if waits {
			waiting++
		}
	}
	if f.work == nil {
		return nil
	}
	return f.apply(func() error { return f.progress(waiting) })
}

// progress plans how far the work is.
func (f *forgetter) progress(waiting int) error {
	k, was := forgetKey(&f.of.What), encodedForget(f.work)
	f.work.Live += uint64(f.out.Live)
	f.work.Recalled += uint64(f.out.Recalled)
	f.work.Replaced += uint64(f.out.Replaced)
	if f.work.Pass == f.of.Pass && f.out.Dealt == len(f.of.Messages)+len(f.of.Replace) {
		f.work.Met += uint64(waiting + f.of.Waits)
		next, at := f.of.Next, placeOf(f.work)
		if at.Compare(next) < 0 {
			f.work.Position, f.work.Offset = next.Position, uint32(next.Offset)
		}
		f.work.After = max(f.work.After, f.of.After)
		if f.of.EndPass {
			running, err := f.eraseJobs()
			if err != nil {
				return err
			}
			f.work.Met += uint64(running)
		}
		if f.of.EndPass && f.work.Met == 0 {
			f.out.Done = true
			f.out.Total.Live, f.out.Total.Recalled = int(f.work.Live), int(f.work.Recalled)
			f.out.Total.Replaced = int(f.work.Replaced)
			f.w.delete(k)
			return nil
		}
		if f.of.EndPass {
			f.work.Pass++
			f.work.Waiting, f.work.Met = f.work.Met, 0
			f.work.Position, f.work.Offset, f.work.After = 0, 0, ""
		}
	}
	if encodedForget(f.work) == was {
		return nil
	}
	return f.w.set(k, f.work)
}

// eraseJobs plans to erase the jobs of the request that have ended, and returns how many run.
func (f *forgetter) eraseJobs() (running int, err error) {
	what := &f.of.What
	err = eachJob(context.Background(), f.txn, what.Tenant, func(j *Job) error {
		r := &j.Request
		var of bool
		switch {
		case what.Sender != "":
			of = r.Actor.ID == what.Sender || r.Filter.Sender == what.Sender
		case what.Conversation != (shared.Conversation{}):
			of = r.Filter.Conversation != nil && *r.Filter.Conversation == what.Conversation
		default:
			of = j.StartedAt.Before(what.Before)
		}
		switch {
		case !of:
		case j.State == shared.JobRunning:
			running++
		default:
			f.w.delete(jobKey(what.Tenant, r.JobID))
		}
		return nil
	})
	return running, err
}

func encodedForget(pb *indexpb.Forget) string {
	data, _ := encode(pb) // it has numbers, and a text that was read from the index
	return string(data)
}

func placeOf(pb *indexpb.Forget) Place { return Place{Position: pb.Position, Offset: int(pb.Offset)} }

// group lists the ids that the group of the operation has of the tenant.
func (f *forgetter) group() (map[string]bool, error) {
	listed := map[string]bool{}
	var pb indexpb.Group
	if found, err := get(f.txn, groupKey(f.of.Position), &pb); err != nil || !found {
		return listed, err
	}
	in, err := members(&pb)
	for i := range in {
		if in[i].tenant == f.of.What.Tenant {
			listed[in[i].id] = true
		}
	}
	return listed, err
}

// shrinkGroup plans the group without the messages that were erased. What it keeps of them is their places: those of
// the others stay.
func (f *forgetter) shrinkGroup() error {
	k := groupKey(f.of.Position)
	var pb indexpb.Group
	if _, err := get(f.txn, k, &pb); err != nil {
		return err
	}
	var out groupWriter
	left := false
	for _, part := range pb.Parts {
		r, err := newPartReader(part)
		if err != nil {
			return err
		}
		sentAt := int64(0)
		for range part.Senders {
			m, err := r.next()
			if err != nil {
				return err
			}
			if m.tenant == f.of.What.Tenant && f.erased[m.id] {
				m = member{tenant: m.tenant}
			}
			if m.id == "" {
				m.sentAt = sentAt
			} else {
				left = true
			}
			sentAt = m.sentAt
			out.add(&m)
		}
		if err := r.end(); err != nil {
			return err
		}
	}
	if !left {
		f.w.delete(k)
		return nil
	}
	value, err := out.encode()
	f.w.entries = append(f.w.entries, entry{key: k, value: value})
	return err
}

// eraseMessage erases a message, if it is of the request, and before it what names it in others. waits says that a step
// is open that needs it; left, that what names it was more than fits.
func (f *forgetter) eraseMessage(id string) (waits, left bool, err error) {
	rec, waits, err := f.find(id)
	if err != nil || waits || rec == nil {
		return waits, false, err
	}
	if f.relations > 0 && !f.of.Expire { // those that relate to an old message are younger, and stay as they are
		if left, err = f.unlink(rec); err != nil || left {
			return false, left, err
		}
	}
	return false, false, f.apply(func() error { return f.erase(rec) })
}

// find reads the record of a message that is to be erased; nil if it is not. waits says that a step is open that needs
// it.
func (f *forgetter) find(id string) (found *Record, waits bool, err error) {
	err = f.dir.Guard(func() error {
		rec, err := readRecord(f.txn, f.of.What.Tenant, id)
		if err != nil || rec == nil || !forgets(&f.of.What, &rec.Message) || f.of.Expire && rec.Tombstone != nil {
			return err
		}
		found = rec
		if rec.Tombstone != nil {
			entry, err := f.entryAt(rec)
			if err == nil && entry != nil {
				waits, err = f.isOpen(entry)
			}
			if err != nil || waits {
				return err
			}
		}
		if f.relations == 0 || f.of.Expire {
			return nil
		}
		for _, r := range rec.Message.Relations { // whose events may name it, for the server to carry out
			entry, _, err := f.naming(r.MessageID, id)
			if err == nil && entry != nil {
				waits, err = f.isOpen(entry)
			}
			if err != nil || waits {
				return err
			}
		}
		return nil
	})
	return found, waits, err
}

// entryAt reads the ledger entry of a recalled message; nil where it was lost.
func (f *forgetter) entryAt(rec *Record) (*indexpb.Entry, error) {
	t, entry := rec.Tombstone, &indexpb.Entry{}
	whole, err := get(f.txn, ledgerKey(rec.Message.Tenant, t.RecallID, t.Sequence), entry)
	if err != nil || !whole {
		return nil, err
	}
	return entry, nil
}

// naming reads the ledger entry of a recalled message whose event names another one as related to it, and its recall
// id; nil if it does not.
func (f *forgetter) naming(recalled, related string) (*indexpb.Entry, string, error) {
	rec, err := readRecord(f.txn, f.of.What.Tenant, recalled)
	if err != nil || rec == nil || rec.Tombstone == nil {
		return nil, "", err
	}
	entry, err := f.entryAt(rec)
	if err != nil || !slices.ContainsFunc(entry.GetRelated(), func(r *indexpb.Related) bool {
		return r.MessageId == related
	}) {
		return nil, "", err
	}
	return entry, rec.Tombstone.RecallID, nil
}

// unlinkAtOnce bounds the relations to a message that are read at once.
const unlinkAtOnce = 50

// unlink removes a message from the events of those that it relates to, and from the live messages that relate to it.
// left says that not all of it fits.
func (f *forgetter) unlink(rec *Record) (left bool, err error) {
	m := &rec.Message
	for _, r := range m.Relations {
		if f.isFull() { // an entry may name a hundred messages
			return true, nil
		}
		err := f.apply(func() error {
			entry, recallID, err := f.naming(r.MessageID, m.ID)
			if err != nil || entry == nil {
				return err
			}
			entry.Related = slices.DeleteFunc(entry.Related, func(r *indexpb.Related) bool { return r.MessageId == m.ID })
			f.w.changed = append(f.w.changed, entry.Sequence)
			return f.w.set(ledgerKey(m.Tenant, recallID, entry.Sequence), entry)
		})
		if err != nil {
			return false, err
		}
	}
	for {
		reads := relations{txn: f.txn, base: f.base, changed: f.links, tenant: m.Tenant}
		var suffixes [][]byte
		err := f.dir.Guard(func() (err error) { suffixes, _, err = reads.linksTo(m.ID, nil, unlinkAtOnce); return err })
		if err != nil || len(suffixes) == 0 {
			return false, err
		}
		for _, suffix := range suffixes {
			if f.isFull() {
				return true, nil
			}
			if err := f.apply(func() error { return f.unlinkFrom(m, suffix) }); err != nil {
				return false, err
			}
		}
	}
}

// unlinkFrom plans to remove a message from one that relates to it.
func (f *forgetter) unlinkFrom(m *shared.Message, suffix []byte) error {
	prefix := relationPrefix(m.Tenant, m.ID)
	f.w.delete(append(slices.Clone(prefix), suffix...))
	f.w.links = append(f.w.links, changedLink{prefix: prefix, suffix: suffix})
	rec, err := readRecord(f.txn, m.Tenant, relating(suffix))
	if err != nil || rec == nil {
		return err
	}
	kind := relationKinds.word[kindOf(suffix)]
	for i := range rec.Message.Relations {
		if r := &rec.Message.Relations[i]; r.Kind == kind && r.MessageID == m.ID {
			r.MessageID = shared.Forgotten
		}
	}
	rec.Message = normal(rec.Message)
	return f.w.set(messageKey(m.Tenant, rec.Message.ID), encodeRecord(rec))
}

// erase plans to erase a message.
func (f *forgetter) erase(rec *Record) error {
	m := &rec.Message
	if rec.Tombstone == nil {
		f.out.Live++
		f.w.link(m, false)
	} else {
		f.out.Recalled++
		if err := f.eraseRecall(rec); err != nil {
			return err
		}
	}
	f.w.delete(messageKey(m.Tenant, m.ID))
	f.erased[m.ID] = true
	for _, attachment := range keysOf(m.Attachments) {
		if rec.Tombstone == nil {
			f.w.use(m.Tenant, attachment, m.ID, false)
		}
		// Once no message uses an attachment, nobody can release it any more.
		marker := ownerRecalledKey(m.Tenant, attachment)
		if marked, err := find(f.txn, marker); err != nil {
			return err
		} else if marked == nil {
			continue
		}
		if used, err := f.usedByOther(m.Tenant, attachment, m.ID); err != nil {
			return err
		} else if !used {
			f.w.delete(marker)
		}
	}
	return nil
}

// eraseRecall plans to erase the recall of a message, and to keep its hash.
func (f *forgetter) eraseRecall(rec *Record) error {
	t, m := rec.Tombstone, &rec.Message
	entry, err := f.entryAt(rec)
	if err != nil {
		return err
	}
	if entry != nil { // it may be lost in a salvaged index
		if err := f.eraseAttempts(entry); err != nil {
			return err
		}
		f.w.delete(ledgerKey(m.Tenant, t.RecallID, t.Sequence))
		f.w.delete(eventKey(t.Sequence))
		f.w.delete(conversationKey(m.Tenant, m.Conversation, t.Sequence))
		if err := f.leaveRecall(m.Tenant, t.RecallID); err != nil {
			return err
		}
	}
	hash := f.hashOf(m.Tenant, m.ID)
	f.w.forgets = append(f.w.forgets, hash)
	f.w.add(forgottenKey(&hash))
	f.w.changed = append(f.w.changed, t.Sequence)
	return nil
}

// leaveRecall plans a recall id with one message less.
func (f *forgetter) leaveRecall(tenant, recallID string) error {
	k := recallIDKey(tenant, recallID)
	var id indexpb.RecallID
	if found, err := get(f.txn, k, &id); err != nil || !found {
		return err
	}
	if id.Messages <= 1 {
		f.w.delete(k)
		return nil
	}
	id.Messages--
	return f.w.set(k, &id)
}

// isOpen reports whether an event still needs its messages: a step is not settled, or may be opened again for a node
// that was gone when the event was committed, or others are still to be recalled with it.
func (f *forgetter) isOpen(pb *indexpb.Entry) (bool, error) {
	if f.relations > 0 {
		if cascade, err := find(f.txn, cascadeKey(pb.Sequence)); err != nil || cascade != nil {
			return true, err
		}
	}
	for _, s := range pb.Steps {
		a, err := readAttempts(f.txn, pb, s)
		if err != nil || !settled(a) {
			return true, err
		}
		for _, m := range f.members {
			if m.Missed > 0 && m.Missed <= pb.Sequence && isOpen(s) && slices.Contains(m.EachNode, s.Name) {
				return true, nil
			}
		}
	}
	return false, nil
}

// eraseAttempts plans to erase what came of the steps of an event.
func (f *forgetter) eraseAttempts(pb *indexpb.Entry) error {
	var names []string // of steps, and of those of nodes
	for _, s := range pb.Steps {
		names = append(names, s.Name)
		for node := range f.members {
			names = append(names, onNode(s.Name, node))
		}
	}
	prefix := newKey('s').number(pb.Sequence)
	it := f.base.NewIterator(badger.IteratorOptions{Prefix: prefix}) // nodes that have left may have some, too
	defer it.Close()
	for it.Seek(prefix); it.Valid(); it.Next() {
		names = append(names, textAt(it.Item().Key(), len(prefix)))
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		k := attemptsKey(pb.Sequence, name)
		switch item, err := find(f.txn, k); {
		case err != nil:
			return err
		case item != nil:
			f.w.delete(k)
		}
	}
	return nil
}

// replace plans to replace, in a message that stays, the sender as the owner of attachments and as the actor of the
// recall, and the ids of messages that are gone. waits says that a step of its recall is open.
func (f *forgetter) replace(id string) (waits bool, err error) {
	tenant, person := f.of.What.Tenant, f.of.What.Sender
	rec, err := readRecord(f.txn, tenant, id)
	if err != nil || rec == nil {
		return false, err
	}
	var entry *indexpb.Entry
	changed := false
	for i := range rec.Message.Attachments {
		if a := &rec.Message.Attachments[i]; person != "" && a.Owner == person {
			a.Owner, changed = shared.Forgotten, true
		}
	}
	if t := rec.Tombstone; t != nil {
		if entry, err = f.entryAt(rec); err != nil {
			return false, err
		}
		for i := range rec.Message.Relations {
			r := &rec.Message.Relations[i]
			gone, err := isGone(f.txn, tenant, r.MessageID)
			if err != nil {
				return false, err
			}
			if !gone {
				continue
			}
			if c := entry.GetCause(); c != nil && c.MessageId == r.MessageID {
				c.MessageId = shared.Forgotten
			}
			r.MessageID, changed = shared.Forgotten, true
		}
		isActor := person != "" && t.RecalledBy == person && t.Sequence <= f.work.Sequence
		if entry != nil && (changed || isActor) {
			if waits, err := f.isOpen(entry); waits || err != nil {
				return waits && !forgets(&f.of.What, &rec.Message), err // those of the request are counted already
			}
		}
		if isActor {
			changed, t.RecalledBy = true, shared.Forgotten
			if entry != nil {
				entry.ActorId, entry.ActorLabels = shared.Forgotten, nil
			}
			if err := f.replaceActor(tenant, t.RecallID, person); err != nil {
				return false, err
			}
		}
		if changed && entry != nil {
			if err := f.w.set(ledgerKey(tenant, t.RecallID, t.Sequence), entry); err != nil {
				return false, err
			}
		}
		f.w.changed = append(f.w.changed, t.Sequence)
	}
	if !changed {
		return false, nil
	}
	f.out.Replaced++
	rec.Message = normal(rec.Message)
	return false, f.w.set(messageKey(tenant, id), encodeRecord(rec))
}

// isGone reports whether there is no record of a message that another one names.
func isGone(txn *badger.Txn, tenant, id string) (bool, error) {
	if id == shared.Forgotten {
		return false, nil
	}
	item, err := find(txn, messageKey(tenant, id))
	return item == nil, err
}

// replaceActor plans a recall id that is nobody's any more.
func (f *forgetter) replaceActor(tenant, recallID, person string) error {
	k := recallIDKey(tenant, recallID)
	var id indexpb.RecallID
	if found, err := get(f.txn, k, &id); err != nil || !found || id.ActorId != person {
		return err
	}
	id.ActorId = shared.Forgotten
	return f.w.set(k, &id)
}

// position is that of the entry that is being applied.
func (b *batch) position() uint64 {
	if b.entry != nil {
		return b.entry.Position
	}
	return b.base.ReadTs() + 1
}

// ForgetWorks lists the requests to forget whose work is under way.
func (x *Index) ForgetWorks() (list []ForgetWork, err error) {
	if !x.mayForget.Load() {
		return nil, nil
	}
	err = x.dir.Read(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: newKey('F')})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			var pb indexpb.Forget
			if err := decode(it.Item(), &pb); err != nil {
				return err
			}
			list = append(list, ForgetWork{
				What: requestOf(it.Item().Key()), End: pb.End, Sequence: pb.Sequence, Pass: pb.Pass, Next: placeOf(&pb),
				After: pb.After, Live: int(pb.Live), Recalled: int(pb.Recalled), Replaced: int(pb.Replaced),
				Waiting: int(max(pb.Waiting, pb.Met)),
			})
		}
		return nil
	})
	return list, err
}

// Naming is what a walk over records found.
type Naming struct {
	Messages []string // ids of messages for Forget.Replace
	After    string   // the message that was visited last
	More     bool
}

// Naming lists messages of the tenant of a request, in the order of their ids after one of them, that name the sender
// who is forgotten, as the owner of an attachment or as the actor of the recall; or that are recalled and relate to a
// message that is gone. It stops when it has found limit, or after a time.
func (x *Index) Naming(
	what *shared.ForgetRequest, after string, limit int, most time.Duration,
) (out Naming, err error) {
	out.After = after
	end := time.Now().Add(most)
	prefix := newKey('m').text(what.Tenant)
	from := prefix
	if after != "" {
		from = append(messageKey(what.Tenant, after), 0)
	}
	err = x.dir.Read(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
		defer it.Close()
		n := 0
		for it.Seek(from); it.Valid(); it.Next() {
			if n++; len(out.Messages) == limit || n%timedMembers == 0 && time.Now().After(end) {
				out.More = true
				return nil
			}
			var pb indexpb.Record
			if err := decode(it.Item(), &pb); err != nil {
				return err
			}
			out.After = textAt(it.Item().Key(), len(prefix))
			names, err := isNaming(txn, what, &pb)
			if err != nil {
				return err
			}
			if names {
				out.Messages = append(out.Messages, out.After)
			}
		}
		return nil
	})
	if err != nil {
		return Naming{}, fmt.Errorf("find what names what was forgotten: %w", err)
	}
	return out, nil
}

func isNaming(txn *badger.Txn, what *shared.ForgetRequest, pb *indexpb.Record) (bool, error) {
	if person := what.Sender; person != "" && pb.Sender != person &&
		(pb.Tombstone.GetActorId() == person || slices.Contains(pb.Owners, person)) {
		return true, nil
	}
	if pb.Tombstone == nil {
		return false, nil
	}
	for _, r := range pb.Relations {
		if gone, err := isGone(txn, what.Tenant, r.MessageId); err != nil || gone {
			return gone, err
		}
	}
	return false, nil
}
