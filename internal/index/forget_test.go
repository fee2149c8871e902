package index

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

var testSecret = bytes.Repeat([]byte{7}, secretBytes)

// forgot sums what Forgets did.
func (f *Forgot) plus(g Forgot) {
	f.Found = f.Found || g.Found
	f.Live += g.Live
	f.Recalled += g.Recalled
	f.Replaced += g.Replaced
	f.Done = f.Done || g.Done
}

// applyForgets applies operations to an index, each until it has dealt with all of its messages.
func applyForgets(t testing.TB, x *Index, ops []Op) (sum Forgot) {
	t.Helper()
	for _, op := range ops {
		f := op.Forget
		if f == nil {
			apply(t, x, op)
		}
		for before := x.dir.Version(); f != nil; before = x.dir.Version() {
			r := apply(t, x, Op{Forget: f})[0].Forgot
			if r.Dealt == 0 && len(f.Messages)+len(f.Replace) > 0 && x.dir.Version() == before {
				t.Fatalf("%+v did nothing", f)
			}
			sum.plus(*r)
			f = f.Rest(r.Dealt)
		}
	}
	return sum
}

// endsPass tells whether operations are the last of a pass.
func endsPass(ops []Op) bool {
	return len(ops) > 0 && ops[len(ops)-1].Forget != nil && ops[len(ops)-1].Forget.EndPass
}

// passForget does one pass of the work of a request, and returns how far it is then; zero: it is done.
func passForget(t testing.TB, x *Index, what shared.ForgetRequest) (sum Forgot, work ForgetWork) {
	t.Helper()
	works, err := x.ForgetWorks()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(works, func(w ForgetWork) bool { return w.What == what })
	if i < 0 {
		t.Fatalf("%+v is not under way: %+v", what, works)
	}
	for w := works[i]; ; {
		ops, err := x.ForgetSlice(t.Context(), &w, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		sum.plus(applyForgets(t, x, ops))
		if endsPass(ops) {
			break
		}
	}
	if works, err = x.ForgetWorks(); err != nil {
		t.Fatal(err)
	}
	for _, w := range works {
		if w.What == what {
			return sum, w
		}
	}
	return sum, ForgetWork{}
}

func beginForget(t testing.TB, x *Index, what shared.ForgetRequest) {
	t.Helper()
	if r := apply(t, x, Op{Forget: &Forget{What: what, Key: testSecret}})[0].Forgot; !r.Found {
		t.Fatalf("begin %+v: %+v", what, r)
	}
}

// forget does the work of a request that nothing is in the way of.
func forget(t testing.TB, x *Index, what shared.ForgetRequest) Forgot {
	t.Helper()
	beginForget(t, x, what)
	sum, work := passForget(t, x, what)
	if !sum.Done || work.Pass != 0 {
		t.Fatalf("forget %+v: %+v, and left %+v", what, sum, work)
	}
	return sum
}

// keysWith lists the keys of an index that contain a text in the key or in the value.
func keysWith(t testing.TB, x *Index, text string) (found []string) {
	t.Helper()
	err := x.dir.View(func(txn *badger.Txn) error {
		return each(t.Context(), txn, nil, nil, func(item *badger.Item) (bool, error) {
			value, err := item.ValueCopy(nil)
			if bytes.Contains(item.Key(), []byte(text)) || bytes.Contains(value, []byte(text)) {
				found = append(found, fmt.Sprintf("%q = %q", item.Key(), value))
			}
			return true, err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// secretive is a message of a sender in a conversation, of which every text contains a word.
func secretive(word, id, sender, conversation string) shared.Message {
	m := message(word + "-" + id)
	m.Sender, m.Conversation.ID = sender, conversation
	m.Attachments = []shared.Attachment{{Key: word + "-file-" + id}, {Key: word + "-lent-" + id, Owner: word + "-owner"}}
	m.Labels, m.Ref = []string{word + "-label"}, word+"-ref"
	return m
}

// secretRecall recalls such a message, with steps that are settled from the start.
func secretRecall(word string, m shared.Message, actor string, steps ...string) Op {
	op := recall(word+"-recall-"+m.ID, m, append([]string{shared.StepSearch}, steps...)...)
	op.Recall.Unsupported = []string{shared.StepSearch}
	e := &op.Recall.Event
	e.Actor = shared.Actor{ID: actor, Labels: []string{word + "-staff"}}
	e.Reason, e.Ext = word+"-reason", word+"-ext"
	e.Placeholder = map[string]string{"en": word + "-placeholder"}
	return op
}

func statusOf(t testing.TB, x *Index, tenant, id string) *Record {
	t.Helper()
	r, err := x.Messages(tenant, []string{id})
	if err != nil {
		t.Fatal(err)
	}
	return r[0]
}

func TestForget(t *testing.T) {
	for name, what := range map[string]shared.ForgetRequest{
		"sender":       {Tenant: "acme", Sender: "xyzzy-ann"},
		"conversation": {Tenant: "acme", Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "xyzzy-g"}},
		"before":       {Tenant: "acme", Before: start.Add(time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			x := openNew(t)
			live, gone := secretive("xyzzy", "live", "xyzzy-ann", "xyzzy-g"), secretive("xyzzy", "gone", "xyzzy-ann", "xyzzy-g")
			carried := secretive("xyzzy", "carried", "xyzzy-ann", "xyzzy-g")
			kept, other := secretive("public", "kept", "bob", "g2"), live
			kept.SentAt = start.Add(time.Hour)
			other.Tenant = "other"
			other.ID, other.Ref = "public", ""
			other.Attachments, other.Labels = nil, nil
			keptRecall := secretRecall("public", kept, "bob")
			keptRecall.Recall.Event.Message.ID = "public-2"
			apply(t, x, put(live), put(gone), put(kept), put(other))
			apply(t, x, secretRecall("xyzzy", gone, "xyzzy-ann"), secretRecall("xyzzy", carried, "xyzzy-ann"), keptRecall)
			before, err := x.Since(t.Context(), shared.SinceRequest{Tenant: "acme"})
			if err != nil {
				t.Fatal(err)
			}
			if n := len(keysWith(t, x, "xyzzy")); n < 14 {
				t.Fatalf("%d keys before: too few for this test", n)
			}
			if r := forget(t, x, what); r.Live != 1 || r.Recalled != 2 || r.Replaced != 0 {
				t.Errorf("%+v", r)
			}
			for _, k := range keysWith(t, x, "xyzzy") {
				if k[:2] != `"m` || !bytes.Contains([]byte(k), []byte("other")) { // of the other tenant
					t.Errorf("left: %s", k)
				}
			}
			check := func(x *Index) {
				t.Helper()
				if r := statusOf(t, x, "acme", live.ID); r != nil {
					t.Errorf("the live message: %+v", r)
				}
				for _, m := range []shared.Message{gone, carried} {
					if r := statusOf(t, x, "acme", m.ID); !reflect.DeepEqual(r, forgottenRecord("acme", m.ID)) {
						t.Errorf("a recalled message: %+v", r)
					}
					amended := Op{Amend: &shared.Amendment{Tenant: "acme", MessageID: m.ID, Labels: []string{"a"}}}
					again := recall("again", m)
					r := apply(t, x, put(m), amended, again)
					if r[0].Put != shared.IndexRecalled || r[1].Put != shared.IndexRecalled ||
						!reflect.DeepEqual(r[2], Result{Tombstone: &Tombstone{}}) {
						t.Errorf("what comes later: %+v", r)
					}
					if statusOf(t, x, "other", m.ID) != nil {
						t.Error("it is recalled for another tenant, too")
					}
				}
				if r := statusOf(t, x, "acme", kept.ID); r == nil || r.Tombstone != nil {
					t.Errorf("the message of another: %+v", r)
				}
				if r := statusOf(t, x, "other", other.ID); r == nil {
					t.Error("the message of another tenant is gone")
				}
				page, err := x.Since(t.Context(), shared.SinceRequest{Tenant: "acme", After: before.Next,
					Conversations: []shared.Conversation{gone.Conversation, kept.Conversation}})
				if err != nil || page.Reset || len(page.Events) != 0 || page.Next != before.Next {
					t.Errorf("since the cursor from before: %+v %v", page, err)
				}
				page, err = x.Since(t.Context(), shared.SinceRequest{Tenant: "acme",
					Conversations: []shared.Conversation{gone.Conversation, kept.Conversation}})
				if err != nil || !slices.Equal(sequences(page.Events), []uint64{3}) {
					t.Errorf("since the first: %+v %v", page, err)
				}
				if l := ledger(t, x, "acme", "xyzzy-recall-"+gone.ID); len(l.Entries) > 0 {
					t.Errorf("its ledger: %+v", l)
				}
			}
			check(x)
			path := x.path
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
			x = openAt(t, path)
			check(x) // while the filters learn
			learned(x)
			for !x.hashes.complete.Load() {
				time.Sleep(time.Millisecond)
			}
			check(x)
			if r := apply(t, x, put(live))[0]; r.Put != shared.IndexAdded {
				t.Errorf("the live message again: %+v", r)
			}
			if r := statusOf(t, x, "acme", live.ID); r == nil {
				t.Error("it is not there")
			}
		})
	}
}

// filesWith lists the files in and beside a folder that contain a text.
func filesWith(t *testing.T, path, text string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Dir(path), func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		if bytes.Contains(data, []byte(text)) {
			found = append(found, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestForget_NoByteIsLeftInTheFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "parent", "index")
	x := openAt(t, path)
	hexID := "0123456789abcdef0123456789abcdef" // packed in groups
	packed, err := hex.DecodeString(hexID)
	if err != nil {
		t.Fatal(err)
	}
	var ops []Op
	for i := range 300 {
		m := secretive("xyzzy", fmt.Sprint(i), "xyzzy-ann", "xyzzy-g")
		if i == 100 {
			m.ID = hexID
		}
		ops = append(ops, put(m))
		if i%3 == 0 {
			ops = append(ops, secretRecall("xyzzy", m, "xyzzy-ann", shared.StepHistory))
		}
	}
	apply(t, x, ops...)
	apply(t, x, thousand("public")...)
	for n := range 100 { // with errors of attempts
		step := fail(uint64(n+1), shared.StepHistory, 1, "xyzzy-error")
		apply(t, x, step)
		apply(t, x, settle(uint64(n+1), shared.StepHistory, shared.OutcomeDone))
	}
	if err := x.Flush(t.Context(), &turns); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"xyzzy", string(packed)} {
		if len(filesWith(t, path, text)) == 0 {
			t.Fatalf("%q is in no file before", text)
		}
	}
	r := forget(t, x, shared.ForgetRequest{Tenant: "acme", Sender: "xyzzy-ann"})
	if r.Live != 200 || r.Recalled != 100 {
		t.Fatalf("%+v", r)
	}
	want, err := x.Content(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	was, cursor := x.Identity(), x.cursorOf(100)
	if err := errors.Join(x.Compact(t.Context(), nil), x.Close()); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"xyzzy", string(packed)} {
		if found := filesWith(t, path, text); found != nil {
			t.Errorf("%q is in %q", text, found)
		}
	}
	x = openAt(t, path)
	if id := x.Identity(); id.Epoch != was.Epoch || id.ID != was.ID {
		t.Errorf("it was %+v and is %+v", was, id)
	}
	if content, err := x.Content(t.Context(), nil); err != nil || content != want {
		t.Errorf("it held %+v and holds %+v, %v", want, content, err)
	}
	page, err := x.Since(t.Context(), shared.SinceRequest{Tenant: "acme", After: cursor})
	if err != nil || page.Reset {
		t.Errorf("%+v %v", page, err)
	}
	if r := statusOf(t, x, "acme", "xyzzy-3"); r == nil || !r.Forgotten {
		t.Errorf("a recalled message: %+v", r)
	}
	if r := apply(t, x, put(secretive("xyzzy", "3", "bob", "g")))[0]; r.Put != shared.IndexRecalled {
		t.Errorf("indexed again: %+v", r)
	}
}

func TestForget_OpenStepsFirst(t *testing.T) {
	x := openNew(t)
	what := shared.ForgetRequest{Tenant: "acme", Sender: "ann"}
	apply(t, x, put(message("a")), put(message("b")), put(message("c")))
	apply(t, x, recall("r", message("a"), shared.StepNotify, shared.StepHistory), recall("r2", message("b"), "own"))
	beginForget(t, x, what)
	sum, work := passForget(t, x, what)
	if sum.Live != 1 || sum.Recalled != 0 || sum.Done || work.Waiting != 2 || work.Pass != 2 {
		t.Fatalf("%+v %+v", sum, work)
	}
	for _, step := range []string{shared.StepNotify, "own"} { // they can still be carried out
		if got := queued(t, x, step); len(got) != 1 {
			t.Errorf("%s: %v", step, got)
		}
	}
	if e, err := x.Entry(2, "own"); err != nil || e == nil || e.Event.Message.Sender != "ann" || e.Event.Reason == "" {
		t.Errorf("%+v %v", e, err)
	}
	apply(t, x, settle(1, shared.StepNotify, shared.OutcomeDone), settle(2, "own", shared.OutcomeDone))
	sum, work = passForget(t, x, what)
	if sum.Recalled != 1 || sum.Done || work.Waiting != 1 || work.Live != 1 || work.Recalled != 1 {
		t.Fatalf("%+v %+v", sum, work)
	}
	apply(t, x, settle(1, shared.StepHistory, shared.OutcomeDone))
	if sum, work = passForget(t, x, what); !sum.Done || sum.Recalled != 1 {
		t.Fatalf("%+v %+v", sum, work)
	}
	// An outcome that is reported twice comes late.
	apply(t, x, settle(1, shared.StepHistory, shared.OutcomeDone), fail(1, shared.StepHistory, 1, "late"))
	if k := keysWith(t, x, "late"); k != nil {
		t.Error(k)
	}
	if _, err := x.Append(t.Context(), []Op{settle(3, "own", shared.OutcomeDone)}); !errors.Is(err, shared.ErrInvalid) {
		t.Errorf("an event that never was: %v", err)
	}
}

func TestForget_WhatIsIndexedMeanwhileStays(t *testing.T) {
	x := openNew(t)
	what := shared.ForgetRequest{Tenant: "acme", Sender: "ann"}
	apply(t, x, put(message("before")))
	beginForget(t, x, what)
	apply(t, x, put(message("after")))
	if sum, _ := passForget(t, x, what); !sum.Done || sum.Live != 1 {
		t.Fatalf("%+v", sum)
	}
	if statusOf(t, x, "acme", "before") != nil || statusOf(t, x, "acme", "after") == nil {
		t.Error("it erased the wrong one")
	}
	if sum := forget(t, x, what); sum.Live != 1 {
		t.Errorf("asked again: %+v", sum)
	}
}

func TestForget_AmendedMeanwhile(t *testing.T) {
	x := openNew(t)
	what := shared.ForgetRequest{Tenant: "acme", Conversation: message("").Conversation}
	apply(t, x, put(message("moves")), put(message("stays")))
	beginForget(t, x, what)
	works, err := x.ForgetWorks()
	if err != nil || len(works) != 1 {
		t.Fatal(works, err)
	}
	ops, err := x.ForgetSlice(t.Context(), &works[0], time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := shared.Conversation{Type: shared.ConversationGroup, ID: "g2"}
	apply(t, x, Op{Amend: &shared.Amendment{Tenant: "acme", MessageID: "moves", Conversation: &elsewhere}})
	if sum := applyForgets(t, x, ops); sum.Live != 1 {
		t.Errorf("%+v", sum)
	}
	if statusOf(t, x, "acme", "moves") == nil || statusOf(t, x, "acme", "stays") != nil {
		t.Error("it erased the wrong one")
	}
}

func TestForget_SharedRecallID(t *testing.T) {
	x := openNew(t)
	bobs := message("bobs")
	bobs.Sender = "bob"
	mine, his := recall("r", message("mine"), shared.StepSearch), recall("r", bobs, shared.StepSearch)
	for _, op := range []Op{mine, his} {
		op.Recall.Unsupported = []string{shared.StepSearch}
		op.Recall.Event.Actor.ID = "admin"
	}
	apply(t, x, mine, his)
	forget(t, x, shared.ForgetRequest{Tenant: "acme", Sender: "ann"})
	l := ledger(t, x, "acme", "r")
	if len(l.Entries) != 1 || l.Entries[0].Event.Message.ID != "bobs" || l.Entries[0].Event.Sequence != 2 {
		t.Errorf("%+v", l)
	}
	if other, err := x.CheckRecallID("acme", "r", "admin", shared.MaxRecallMessages-1); other || err != nil {
		t.Errorf("the id has room for all but one: %v %v", other, err)
	}
	forget(t, x, shared.ForgetRequest{Tenant: "acme", Sender: "bob"})
	if other, err := x.CheckRecallID("acme", "r", "zoe", shared.MaxRecallMessages); other || err != nil {
		t.Errorf("the id is free: %v %v", other, err)
	}
}

func TestForget_SenderInMessagesOfOthers(t *testing.T) {
	x := openNew(t)
	recalled, open := message("recalled"), message("open")
	live, linked := message("live"), message("linked", "f")
	linked.Attachments = []shared.Attachment{{Key: "f", Owner: "eve"}, {Key: "f", Owner: "bob"}, {Key: "g"}}
	done, waits := secretRecall("w", recalled, "eve"), secretRecall("w", open, "eve", "own")
	apply(t, x, put(recalled), put(open), put(live), put(linked), done, waits)
	what := shared.ForgetRequest{Tenant: "acme", Sender: "eve"}
	beginForget(t, x, what)
	sum, work := passForget(t, x, what)
	if sum.Done || sum.Replaced != 2 || sum.Live+sum.Recalled != 0 || work.Waiting != 1 {
		t.Fatalf("%+v %+v", sum, work)
	}
	apply(t, x, settle(2, "own", shared.OutcomeDone), secretRecall("w", live, "eve"))
	if sum, work = passForget(t, x, what); !sum.Done || sum.Replaced != 1 {
		t.Fatalf("%+v %+v", sum, work)
	}
	for _, id := range []string{"recalled", "open"} {
		e := ledger(t, x, "acme", "w-recall-"+id).Entries[0].Event
		if e.Actor.ID != shared.Forgotten || e.Actor.Labels != nil || e.Reason != "w-reason" {
			t.Errorf("%s: %+v", id, e)
		}
		if r := statusOf(t, x, "acme", id); r.Tombstone.RecalledBy != shared.Forgotten || r.Message.Sender != "ann" {
			t.Errorf("%s: %+v", id, r)
		}
	}
	if r := statusOf(t, x, "acme", "live"); r.Tombstone.RecalledBy != "eve" {
		t.Errorf("recalled after the request: %+v", r.Tombstone)
	}
	want := []shared.Attachment{{Key: "f", Owner: shared.Forgotten}, {Key: "f", Owner: "bob"}, {Key: "g"}}
	if r := statusOf(t, x, "acme", "linked"); !reflect.DeepEqual(r.Message.Attachments, want) {
		t.Errorf("%+v", r.Message.Attachments)
	}
}

func TestForget_Attachments(t *testing.T) {
	x := openNew(t)
	first, second := message("first", "f"), message("second", "f")
	second.Sender = "bob"
	third := message("third", "f")
	third.Sender = "eve"
	op := secretRecall("w", first, "ann")
	apply(t, x, put(first), put(second), put(third), op)
	marker := ownerRecalledKey("acme", "f")
	if k := keysWith(t, x, string(marker)); len(k) != 1 {
		t.Fatal(k)
	}
	forget(t, x, shared.ForgetRequest{Tenant: "acme", Sender: "bob"}) // another message uses it still
	if k := keysWith(t, x, string(marker)); len(k) != 1 {
		t.Error(k)
	}
	forget(t, x, shared.ForgetRequest{Tenant: "acme", Sender: "eve"})
	if k := keysWith(t, x, string(marker)); k != nil {
		t.Error(k)
	}
	if k := keysWith(t, x, "a/acme"); k != nil {
		t.Error(k)
	}
}

// What was recalled with another message belongs to the same recall id, and does not count.
func TestForget_RecalledTogether(t *testing.T) {
	for _, first := range []string{"ann", "bob"} { // who is forgotten first: of the message or of its quote
		x := openNew(t)
		quote := message("quote")
		quote.Sender, quote.Relations = "bob", []shared.Relation{{Kind: shared.RelationQuote, MessageID: "m"}}
		apply(t, x, put(message("m")), put(quote))
		op := secretRecall("w", message("m"), "admin")
		op.Recall.Event.RecallID, op.Recall.Cascade = "r", KindsOf(shared.RelationQuote)
		with, err := x.FindRelated(op.Recall, nil, func(*shared.Message) bool { return false })
		if err != nil {
			t.Fatal(err)
		}
		op.Recall.With = with
		apply(t, x, op)
		messages := 1 // of the recall id
		for _, sender := range []string{first, map[string]string{"ann": "bob", "bob": "ann"}[first]} {
			other, err := x.CheckRecallID("acme", "r", "zoe", 1)
			if err != nil || !other {
				t.Errorf("before %s is forgotten, the id is another's: %v %v", sender, other, err)
			}
			most := shared.MaxRecallMessages - messages
			if _, err := x.CheckRecallID("acme", "r", "admin", most); err != nil {
				t.Errorf("before %s is forgotten: %v", sender, err)
			}
			if _, err := x.CheckRecallID("acme", "r", "admin", most+1); !errors.Is(err, shared.ErrInvalid) {
				t.Errorf("before %s is forgotten, one more: %v", sender, err)
			}
			if sum := forget(t, x, shared.ForgetRequest{Tenant: "acme", Sender: sender}); sum.Recalled != 1 {
				t.Errorf("%s: %+v", sender, sum)
			}
			if sender == "ann" {
				messages = 0
			}
		}
		if other, err := x.CheckRecallID("acme", "r", "zoe", shared.MaxRecallMessages); other || err != nil {
			t.Errorf("the id is free: %v %v", other, err)
		}
	}
}

func TestForget_ManyInOneGroup(t *testing.T) {
	x := openNew(t)
	var ops []Op
	for i := range 1000 {
		m := message(fmt.Sprintf("m%04d", i))
		if i%2 == 0 {
			m.Sender = "bob"
		}
		for k := range 20 {
			m.Attachments = append(m.Attachments, shared.Attachment{Key: fmt.Sprintf("%01000d-%d-%d", 0, i, k)})
		}
		ops = append(ops, put(m))
	}
	apply(t, x, ops...)
	var places []Place
	for _, f := range placesOf(t, x) {
		if f.Message.Sender == "bob" {
			places = append(places, f.Place)
		}
	}
	if r := forget(t, x, shared.ForgetRequest{Tenant: "acme", Sender: "ann"}); r.Live != 500 {
		t.Fatalf("%+v", r)
	}
	for i, f := range placesOf(t, x) { // cursors of other walks stay valid
		if f.Place != places[i] || f.Message.Sender != "bob" {
			t.Fatalf("%d: %+v, want the place %+v", i, f, places[i])
		}
	}
	if r := forget(t, x, shared.ForgetRequest{Tenant: "acme", Sender: "bob"}); r.Live != 500 {
		t.Fatalf("%+v", r)
	}
	if k := keysWith(t, x, "t/"); k != nil {
		t.Errorf("groups: %q", k)
	}
}

func placesOf(t testing.TB, x *Index) []Found {
	t.Helper()
	w, err := x.Walk(t.Context(), WalkRequest{})
	if err != nil || w.More {
		t.Fatal(w.More, err)
	}
	return w.Found
}

func TestExpire(t *testing.T) {
	x := openNew(t)
	old, recalled, young, other := message("old", "f"), message("recalled"), message("young"), message("other")
	young.SentAt = start.Add(time.Hour)
	other.Tenant = "other"
	apply(t, x, put(old), put(recalled), put(young), put(other))
	apply(t, x, recall("r", recalled, "own"))
	ops, _, more, err := x.ExpireSlice(t.Context(), start.Add(time.Minute), Place{}, time.Hour)
	if err != nil || more {
		t.Fatal(more, err)
	}
	if r := applyForgets(t, x, ops); r.Live != 2 || r.Recalled != 0 {
		t.Errorf("%+v", r)
	}
	if statusOf(t, x, "acme", "old") != nil || statusOf(t, x, "other", "other") != nil {
		t.Error("an old message is there")
	}
	if r := statusOf(t, x, "acme", "recalled"); r == nil || r.Tombstone == nil || r.Forgotten {
		t.Errorf("a recalled message: %+v", r)
	}
	if statusOf(t, x, "acme", "young") == nil {
		t.Error("a young message is gone")
	}
	if k := keysWith(t, x, "a/"); k != nil {
		t.Errorf("%q", k)
	}
	if r := apply(t, x, put(old))[0]; r.Put != shared.IndexAdded {
		t.Errorf("indexed again: %+v", r)
	}
}

// An old message that the event of a recall names stays until the server has carried that out. Then nothing names it.
func TestExpire_NamedByAnEvent(t *testing.T) {
	x := openNew(t)
	quote := message("xyzzy")
	quote.Relations = []shared.Relation{{Kind: shared.RelationQuote, MessageID: "m"}}
	apply(t, x, put(message("m")), put(quote))
	op := recall("r", message("m"), "own")
	with, err := x.FindRelated(op.Recall, nil, func(*shared.Message) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	op.Recall.With = with
	apply(t, x, op)
	expire := func() Forgot {
		t.Helper()
		ops, _, more, err := x.ExpireSlice(t.Context(), start.Add(time.Minute), Place{}, time.Hour)
		if err != nil || more {
			t.Fatal(more, err)
		}
		return applyForgets(t, x, ops)
	}
	if r := expire(); r.Live != 0 || statusOf(t, x, "acme", "xyzzy") == nil {
		t.Errorf("%+v", r)
	}
	apply(t, x, settle(1, "own", shared.OutcomeDone))
	if r := expire(); r.Live != 1 {
		t.Errorf("%+v", r)
	}
	if k := keysWith(t, x, "xyzzy"); k != nil {
		t.Errorf("%q", k)
	}
}

func TestForget_Refused(t *testing.T) {
	long := make([]string, MaxForgetMessages+1)
	for i := range long {
		long[i] = fmt.Sprint(i)
	}
	good := shared.ForgetRequest{Tenant: "acme", Sender: "ann"}
	for name, f := range map[string]Forget{
		"no tenant":        {What: shared.ForgetRequest{Sender: "ann"}},
		"nothing":          {What: shared.ForgetRequest{Tenant: "acme"}},
		"two":              {What: shared.ForgetRequest{Tenant: "acme", Sender: "ann", Before: start}},
		"no type":          {What: shared.ForgetRequest{Tenant: "acme", Conversation: shared.Conversation{ID: "g"}}},
		"NUL":              {What: shared.ForgetRequest{Tenant: "acme", Sender: "a\x00b"}},
		"short key":        {What: good, Key: []byte("short")},
		"too many":         {What: good, Messages: long},
		"an id with a NUL": {What: good, Messages: []string{"a\x00"}},
		"expire a sender":  {What: good, Expire: true},
	} {
		if err := CheckOps([]Op{{Forget: &f}}); !errors.Is(err, shared.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := CheckOps([]Op{put(message("m")), {Forget: &Forget{What: good}}}); !errors.Is(err, shared.ErrInvalid) {
		t.Errorf("not alone: %v", err)
	}
	if _, err := AppendOp(nil, &Op{Forget: &Forget{What: good}}, 2); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("in an older format: %v", err)
	}
	x := openNew(t)
	apply(t, x, put(message("m")))
	none := &Forget{What: good, Position: 2, Messages: []string{"m"}}
	if r := apply(t, x, Op{Forget: none})[0].Forgot; *r != (Forgot{}) {
		t.Errorf("work that was not begun: %+v", r)
	}
	if statusOf(t, x, "acme", "m") == nil {
		t.Error("it erased something")
	}
}

// passForget has a node do one pass of the work of a request.
func (n *nodes) passForget(node int, what shared.ForgetRequest) (sum Forgot) {
	n.t.Helper()
	works, err := n.indexes[node].ForgetWorks()
	if err != nil || len(works) != 1 || works[0].What != what {
		n.t.Fatal(works, err)
	}
	for w := works[0]; ; {
		ops, err := n.indexes[node].ForgetSlice(n.t.Context(), &w, time.Hour)
		if err != nil {
			n.t.Fatal(err)
		}
		for _, op := range ops {
			for f := op.Forget; f != nil; {
				r := n.apply(node, Op{Forget: f})[0].Forgot
				sum.plus(*r)
				f = f.Rest(r.Dealt)
			}
		}
		if endsPass(ops) {
			return sum
		}
	}
}

func TestForget_Cluster(t *testing.T) {
	n := newNodes(t, 2)
	n.join(memberOf(0))
	n.join(memberOf(1))
	steps := []string{shared.StepNotify, shared.StepHistory}
	what := shared.ForgetRequest{Tenant: "acme", Sender: "ann"}
	n.apply(0, put(message("live")), recall("r", message("gone"), steps...))
	for node := range 2 {
		n.settleOn(node, 1, shared.StepNotify, shared.OutcomeDone)
	}
	n.settleOn(0, 1, shared.StepHistory, shared.OutcomeDone)
	n.leave(0, 1, false) // it misses an event
	n.apply(0, recall("r2", message("missed"), steps...))
	n.settleOn(0, 2, shared.StepNotify, shared.OutcomeDone)
	n.settleOn(0, 2, shared.StepHistory, shared.OutcomeDone)
	other := bytes.Repeat([]byte{8}, secretBytes)
	n.apply(0, Op{Forget: &Forget{What: what, Key: testSecret}}) // both nodes begin
	n.apply(0, Op{Forget: &Forget{What: what, Key: other}})
	if sum := n.passForget(0, what); sum.Live != 1 || sum.Recalled != 1 || sum.Done {
		t.Fatalf("%+v", sum)
	}
	n.wantEqual()
	n.join(memberOf(1)) // it gets what it missed
	if got := queued(t, n.indexes[1], shared.StepNotify); !slices.Equal(got, []uint64{2}) {
		t.Errorf("the node that was gone has notify of %v", got)
	}
	n.settleOn(1, 2, shared.StepNotify, shared.OutcomeDone)
	if sum := n.passForget(1, what); sum.Recalled != 1 || !sum.Done { // another node goes on
		t.Fatalf("%+v", sum)
	}
	n.wantEqual()
	for _, x := range n.indexes {
		for _, id := range []string{"gone", "missed"} {
			if r := statusOf(t, x, "acme", id); r == nil || !r.Forgotten {
				t.Errorf("%s: %+v", id, r)
			}
		}
		if k := keysWith(t, x, "s/"); k != nil {
			t.Errorf("%q", k)
		}
	}
	n.leave(0, 1, false)
	n.join(memberOf(1)) // there is nothing to open again of what was forgotten
	n.wantEqual()
}

func TestForget_Salvaged(t *testing.T) {
	path := t.TempDir()
	x := openAt(t, path)
	m := message("recalled")
	open, waiting := message("open"), shared.ForgetRequest{Tenant: "acme", Conversation: message("").Conversation}
	apply(t, x, put(message("live")), secretRecall("w", m, "ann"), secretRecall("w", open, "ann", "own"))
	beginForget(t, x, waiting)
	if sum, _ := passForget(t, x, waiting); sum.Live != 1 || sum.Recalled != 1 {
		t.Fatalf("%+v", sum)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "salvaged")
	if _, err := Salvage(t.Context(), path, to, hclog.NewNullLogger()); err != nil {
		t.Fatal(err)
	}
	x = openAt(t, to)
	if r := apply(t, x, put(m))[0]; r.Put != shared.IndexRecalled {
		t.Errorf("a message that was forgotten: %+v", r)
	}
	apply(t, x, put(message("late")), settle(2, "own", shared.OutcomeDone))
	if sum, _ := passForget(t, x, waiting); sum.Recalled != 1 || sum.Live != 0 || !sum.Done { // it goes on
		t.Errorf("%+v", sum)
	}
	if r := statusOf(t, x, "acme", "late"); r == nil {
		t.Error("a message that was indexed after the request is gone")
	}
	if r := statusOf(t, x, "acme", "open"); r == nil || !r.Forgotten {
		t.Errorf("%+v", r)
	}
}

func TestForget_Backup(t *testing.T) {
	x := openNew(t)
	apply(t, x, secretRecall("xyzzy", message("m"), "ann"))
	forget(t, x, shared.ForgetRequest{Tenant: "acme", Sender: "ann"})
	var backup bytes.Buffer
	if err := x.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(backup.Bytes(), []byte("xyzzy")) {
		t.Error("the backup has what was forgotten")
	}
	to := filepath.Join(t.TempDir(), "restored")
	if _, err := Restore(t.Context(), &backup, to, hclog.NewNullLogger(), nil); err != nil {
		t.Fatal(err)
	}
	if r := apply(t, openAt(t, to), put(message("m")))[0]; r.Put != shared.IndexRecalled {
		t.Errorf("%+v", r)
	}
}

func TestForget_Relations(t *testing.T) {
	x := openNew(t)
	relating := func(id, sender string, kind shared.RelationKind, to string) shared.Message {
		m := message(id)
		m.Sender, m.Relations = sender, []shared.Relation{{Kind: kind, MessageID: to}}
		return m
	}
	root := message("xyzzy-root")
	root.Sender = "xyzzy"
	quote := relating("quote", "bob", shared.RelationQuote, root.ID)
	answer := relating("answer", "bob", shared.RelationReply, root.ID)
	hers := message("hers")
	mine := relating("xyzzy-mine", "xyzzy", shared.RelationQuote, hers.ID)
	apply(t, x, put(root), put(quote), put(answer), put(hers), put(mine))
	op := secretRecall("w", root, "admin", "own")
	op.Recall.Event.RecallID = "shared"
	op.Recall.Cascade = KindsOf(shared.RelationQuote)
	with, err := x.FindRelated(op.Recall, nil, func(*shared.Message) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	op.Recall.With = with
	hersOp := secretRecall("w", hers, "admin", "own")
	hersOp.Recall.With, err = x.FindRelated(hersOp.Recall, nil, func(*shared.Message) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	if r := apply(t, x, op, hersOp); !r[0].New || !r[1].New {
		t.Fatalf("%+v", r)
	}
	what := shared.ForgetRequest{Tenant: "acme", Sender: "xyzzy"}
	beginForget(t, x, what)
	// The root has an open step; the event of hers names mine, and the server still removes it from mine.
	sum, work := passForget(t, x, what)
	if sum.Live+sum.Recalled+sum.Replaced != 0 || work.Waiting != 2 {
		t.Fatalf("%+v %+v", sum, work)
	}
	for sequence := range uint64(3) { // root, quote, hers
		apply(t, x, settle(sequence+1, "own", shared.OutcomeDone))
	}
	if sum, work = passForget(t, x, what); !sum.Done || sum.Live != 1 || sum.Recalled != 1 || sum.Replaced != 1 {
		t.Fatalf("%+v %+v", sum, work)
	}
	if k := keysWith(t, x, "xyzzy"); k != nil {
		t.Errorf("left: %q", k)
	}
	want := []shared.Relation{{Kind: shared.RelationReply, MessageID: shared.Forgotten}}
	if r := statusOf(t, x, "acme", "answer"); !slices.Equal(r.Message.Relations, want) || r.Tombstone != nil {
		t.Errorf("a live message that answered it: %+v", r)
	}
	e := ledger(t, x, "acme", "shared")
	if len(e.Entries) != 1 || e.Entries[0].Event.Cause.MessageID != shared.Forgotten {
		t.Errorf("%+v", e)
	}
	if r := statusOf(t, x, "acme", "quote"); r.Tombstone == nil || r.Message.Relations[0].MessageID != shared.Forgotten {
		t.Errorf("a quote that was recalled with it: %+v", r)
	}
	late := relating("late", "bob", shared.RelationQuote, root.ID)
	r := apply(t, x, put(late))[0]
	if r.Put != shared.IndexAdded || len(r.Related) != 1 || r.Related[0].MessageID != root.ID {
		t.Errorf("a message that comes late: %+v", r)
	}
}

// A message of the sender that an open event names stays whole until it is erased.
func TestForget_OwnRecallStaysWhole(t *testing.T) {
	x := openNew(t)
	root, named := message("root"), message("named")
	root.Sender = "bob"
	named.Relations = []shared.Relation{
		{Kind: shared.RelationQuote, MessageID: root.ID}, {Kind: shared.RelationForward, MessageID: "unknown"},
	}
	apply(t, x, put(root), put(named))
	op := recall("r", root, "own")
	with, err := x.FindRelated(op.Recall, nil, func(*shared.Message) bool { return false })
	if err != nil || len(with) != 1 || !with[0].Stays {
		t.Fatalf("%+v %v", with, err)
	}
	op.Recall.With = with
	apply(t, x, op, secretRecall("w", named, "ann"))
	what := shared.ForgetRequest{Tenant: "acme", Sender: "ann"}
	beginForget(t, x, what)
	if sum, work := passForget(t, x, what); sum.Done || sum.Recalled != 0 || work.Waiting != 1 {
		t.Fatalf("%+v %+v", sum, work)
	}
	if r := statusOf(t, x, "acme", "named"); r.Tombstone.RecalledBy != "ann" || r.Message.Sender != "ann" {
		t.Errorf("%+v %+v", r.Message, r.Tombstone)
	}
	apply(t, x, settle(1, "own", shared.OutcomeDone))
	if sum, _ := passForget(t, x, what); !sum.Done || sum.Recalled != 1 {
		t.Fatalf("%+v", sum)
	}
}

func TestForget_ManyRelationsToOne(t *testing.T) {
	x := openNew(t)
	apply(t, x, put(message("root")))
	var ops []Op
	for i := range 5000 {
		m := message(fmt.Sprint("m", i))
		m.Sender, m.Relations = "bob", []shared.Relation{{Kind: shared.RelationReply, MessageID: "root"}}
		ops = append(ops, put(m))
	}
	apply(t, x, ops...)
	before := x.dir.Version()
	if r := forget(t, x, shared.ForgetRequest{Tenant: "acme", Sender: "ann"}); r.Live != 1 {
		t.Errorf("%+v", r)
	}
	if n := x.dir.Version() - before; n < 3 {
		t.Errorf("%d commits", n)
	}
	if k := keysWith(t, x, "root"); k != nil {
		t.Errorf("%d keys are left: %q", len(k), k[0])
	}
}

func TestForget_Waits(t *testing.T) {
	x := openNew(t)
	what := shared.ForgetRequest{Tenant: "acme", Sender: "ann"}
	other := waiting("m2", "r2")
	other.Wait.Actor.ID = "bob"
	apply(t, x, waiting("m", "r"), other)
	beginForget(t, x, what)
	if sum, work := passForget(t, x, what); sum.Done || work.Waiting != 1 {
		t.Fatalf("%+v %+v", sum, work)
	}
	m, m2 := message("m"), message("m2")
	if n, err := x.WaitsFor(&m); err != nil || len(n) != 1 {
		t.Errorf("it waits no longer: %v %v", n, err)
	}
	apply(t, x, Op{EndWait: &EndWait{
		Tenant: "acme", MessageID: "m", RecallID: "r", State: shared.WaitRefused, At: start.UnixMicro(),
	}})
	if sum, _ := passForget(t, x, what); !sum.Done {
		t.Errorf("%+v", sum)
	}
	if k := keysWith(t, x, "ann"); k != nil {
		t.Errorf("left: %q", k)
	}
	if n, err := x.WaitsFor(&m2); err != nil || len(n) != 1 {
		t.Errorf("that of another: %v %v", n, err)
	}
	apply(t, x, put(message("m")), secretRecall("w", message("m"), "ann"))
	forget(t, x, what)
	if r := apply(t, x, waiting("m", "r9"))[0]; !r.Stale { // it is judged again, and is recalled already
		t.Errorf("a wait for a message that was forgotten: %+v", r)
	}
}

func TestForget_Jobs(t *testing.T) {
	x := openNew(t)
	start := func(id, actor, sender string) Op {
		return Op{Job: &JobOp{Tenant: "acme", ID: id, Start: &JobStart{At: start, Request: shared.JobRequest{
			Tenant: "acme", JobID: id, Actor: shared.Actor{ID: actor}, Role: shared.RoleSystem, Reason: "xyzzy",
			Filter: shared.JobFilter{Sender: sender},
		}}}}
	}
	apply(t, x, start("of", "admin", "eve"))
	apply(t, x, start("by", "eve", "ann"))
	apply(t, x, start("other", "admin", "ann"))
	what := shared.ForgetRequest{Tenant: "acme", Sender: "eve"}
	beginForget(t, x, what)
	if sum, work := passForget(t, x, what); sum.Done || work.Waiting != 2 {
		t.Fatalf("%+v %+v", sum, work)
	}
	for _, id := range []string{"of", "by"} {
		apply(t, x, Op{Job: &JobOp{Tenant: "acme", ID: id, Cancel: &JobCancel{At: time.UnixMicro(1)}}})
	}
	if sum, _ := passForget(t, x, what); !sum.Done {
		t.Errorf("%+v", sum)
	}
	if k := keysWith(t, x, "eve"); k != nil {
		t.Errorf("left: %q", k)
	}
	if j, err := x.Job("acme", "other"); err != nil || j == nil {
		t.Errorf("%v %v", j, err)
	}
}

// A message relates to many recalled ones, and the events of all of them name it.
func TestForget_NamedByManyEvents(t *testing.T) {
	x := openNew(t)
	var ops []Op
	var relations []shared.Relation
	for i := range shared.MaxRelations {
		m := message(fmt.Sprint("to", i))
		m.Sender = "bob"
		ops = append(ops, put(m))
		relations = append(relations, shared.Relation{Kind: shared.RelationQuote, MessageID: m.ID})
	}
	for i := range 25 { // which make the entries of events large
		m := message(fmt.Sprint("xyzzy", i))
		m.Relations, m.Ref = relations, strings.Repeat("r", shared.MaxRefBytes)
		ops = append(ops, put(m))
	}
	apply(t, x, ops...)
	for i := range shared.MaxRelations {
		m := message(fmt.Sprint("to", i))
		m.Sender = "bob"
		op := secretRecall("w", m, "bob")
		with, err := x.FindRelated(op.Recall, nil, func(*shared.Message) bool { return false })
		if err != nil {
			t.Fatal(err)
		}
		op.Recall.With = with
		if r := apply(t, x, op); !r[0].New || len(with) != 25 {
			t.Fatalf("%+v, with %d", r, len(with))
		}
	}
	if r := forget(t, x, shared.ForgetRequest{Tenant: "acme", Sender: "ann"}); r.Live != 25 {
		t.Errorf("%+v", r)
	}
	if k := keysWith(t, x, "xyzzy"); k != nil {
		t.Errorf("%d keys are left, such as %.200q", len(k), k[0])
	}
}
