package index

import (
	"encoding/binary"

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

func encodedForget(pb *indexpb.Forget) string {
	data, _ := encode(pb) // it has numbers, and a text that was read from the index
	return string(data)
}

func placeOf(pb *indexpb.Forget) Place { return Place{Position: pb.Position, Offset: int(pb.Offset)} }

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
