package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// pluginAPI is another name, so that it can be embedded beside its method Recall.
type pluginAPI = shared.Recall

// index answers for the plugin what a test wants, and lets it act at that moment.
type index struct {
	pluginAPI
	onIndex  func(m shared.Message) (shared.IndexStatus, error)
	onStatus func(id string) shared.MessageState
}

func (i *index) Index(_ context.Context, msgs []shared.Message) ([]shared.IndexResult, error) {
	status, err := i.onIndex(msgs[0])
	return []shared.IndexResult{{MessageID: msgs[0].ID, Status: status}}, err
}

func (i *index) Status(_ context.Context, _ string, ids []string) (list []shared.MessageStatus, err error) {
	for _, id := range ids {
		list = append(list, shared.MessageStatus{MessageID: id, State: i.onStatus(id)})
	}
	return list, nil
}

// newStubServer is a server whose plugin is played by the test.
func newStubServer(t *testing.T, i *index) *Server {
	t.Helper()
	s, err := newServer(Data{Folder: t.TempDir()}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := addDemo(testContext(t), s); err != nil {
		t.Fatal(err)
	}
	i.start(t, s)
	return s
}

// start gives a server its plugin. It returns when the repair has made the passes of a start: a later pass would index
// the messages of the test a second time.
func (i *index) start(t *testing.T, s *Server) {
	t.Helper()
	if i.onIndex == nil {
		i.onIndex = func(shared.Message) (shared.IndexStatus, error) { return shared.IndexAdded, nil }
	}
	if i.onStatus == nil {
		i.onStatus = func(string) shared.MessageState { return shared.MessageLive }
	}
	ctx := testContext(t)
	passes, read := make(chan struct{}, 2), s.repair.Read
	s.repair.Read = func(ctx context.Context, after string) (adapter.Page[Stored], error) {
		page, err := read(ctx, after)
		select {
		case passes <- struct{}{}:
		default:
		}
		return page, err
	}
	s.start(ctx, i, func() error { return nil })
	for range 2 { // that of start, and the first one of the loop
		select {
		case <-passes:
		case <-ctx.Done():
			t.Fatal("the repair makes no pass")
		}
	}
}

// The plugin says "indexed", and before that answer is acted upon the message is recalled.
func TestSend_RecalledMeanwhile(t *testing.T) {
	var s *Server
	s = newStubServer(t, &index{onIndex: func(m shared.Message) (shared.IndexStatus, error) {
		if m.ID == "racing" {
			s.hub.Gone(m.ID)
		}
		return shared.IndexAdded, nil
	}})
	ben := connect(t, s, "ben")
	send(t, s, "dan", Outgoing{ID: "racing", Conversation: groupRoom, Text: "x"})
	send(t, s, "dan", Outgoing{ID: "after", Conversation: groupRoom, Text: "y"})
	ben.wait(t, "message", "after")
	if _, got := ben.has("message", "racing"); got {
		t.Error("the recalled message was delivered")
	}
	if _, missed := s.hub.Received("racing"); !missed["ben"] {
		t.Error("it is not known that ben did not get it")
	}
}

// A user comes back; the plugin is asked about the waiting message, says "live", and then the recall is committed.
func TestLateDelivery_RecalledMeanwhile(t *testing.T) {
	var s *Server
	s = newStubServer(t, &index{onStatus: func(id string) shared.MessageState {
		if id == "racing" {
			s.hub.Gone(id)
		}
		return shared.MessageLive
	}})
	send(t, s, "dan", Outgoing{ID: "racing", Conversation: groupRoom, Text: "x"})
	send(t, s, "dan", Outgoing{ID: "after", Conversation: groupRoom, Text: "y"})
	ben := connect(t, s, "ben")
	ben.wait(t, "message", "after")
	if _, got := ben.has("message", "racing"); got {
		t.Error("the recalled message was delivered")
	}
}

// The repair loop may come to a message between the commit of its recall and the notices. What they tell from must be
// there.
func TestNotice_RepairedFirst(t *testing.T) {
	var recalled atomic.Bool
	s := newStubServer(t, &index{onIndex: func(shared.Message) (shared.IndexStatus, error) {
		if recalled.Load() {
			return shared.IndexRecalled, nil
		}
		return shared.IndexAdded, nil
	}})
	ben := connect(t, s, "ben")
	m := send(t, s, "cleo", Outgoing{ID: "m", Conversation: groupRoom, Text: "x"})
	ben.wait(t, "message", "m")
	recalled.Store(true)
	if err := s.reindex(testContext(t), m); !errors.Is(err, ErrRecalled) {
		t.Fatal(err)
	}
	notify(t, s, m)
	if n := ben.notice(t, "m"); n.Message == nil {
		t.Error("the notice for a user who has the message lacks its facts")
	}
}

// A message is recalled while it is being indexed: to its receivers it never was.
func TestSend_IndexedAsRecalled(t *testing.T) {
	s := newStubServer(t, &index{onIndex: func(shared.Message) (shared.IndexStatus, error) {
		return shared.IndexRecalled,
			nil
	}})
	ben := connect(t, s, "ben")
	m, err := s.Send(testContext(t), "cleo", Outgoing{ID: "m", Conversation: groupRoom, Text: "x"})
	if !errors.Is(err, ErrRecalled) {
		t.Fatal(err)
	}
	notify(t, s, m)
	if n := ben.notice(t, "m"); n.Message != nil {
		t.Errorf("the notice for a user who never got the message has its facts: %+v", n.Message)
	}
}

// The answer to the recall that was first is still on its way to the server.
func TestRecall_NoDeliveryAfterTheAnswer(t *testing.T) {
	s := newStubServer(t, &index{})
	s.recall = alreadyRecalled{s.recall}
	s.adapter.Attach(s.recall)
	ben, err := s.Connect("ben")
	if err != nil {
		t.Fatal(err)
	}
	defer ben.Leave()
	send(t, s, "dan", Outgoing{ID: "recalled", Conversation: groupRoom, Text: "x"})
	r := takeBack(t, s, "dan", adapter.Ask{MessageIDs: []string{"recalled"}})
	if r.Status != shared.StatusAlreadyRecalled {
		t.Fatal(r)
	}
	send(t, s, "dan", Outgoing{ID: "live", Conversation: groupRoom, Text: "x"})
	if f, err := ben.Next(testContext(t)); err != nil || f.ID != "live" {
		t.Errorf("%s %s is delivered, %v", f.Event, f.ID, err)
	}
}

// alreadyRecalled answers so for every message.
type alreadyRecalled struct{ pluginAPI }

func (alreadyRecalled) Recall(_ context.Context, req shared.RecallRequest) (list []shared.RecallResult, err error) {
	for _, target := range req.Targets {
		list = append(list, shared.RecallResult{MessageID: target.MessageID, Status: shared.StatusAlreadyRecalled})
	}
	return list, nil
}

// Dan sends something under the id of Ann's message while it is recalled.
func TestSend_IDUsedAgain(t *testing.T) {
	s := newStubServer(t, &index{})
	ben := connect(t, s, "ben")
	m := send(t, s, "ann", Outgoing{ID: "m", Conversation: singleRoom, Text: "x"})
	ben.wait(t, "message", "m")
	resume := pauseWrites(t, s)
	sent := make(chan error)
	go func() {
		_, err := s.Send(testContext(t), "dan", Outgoing{ID: "m", Conversation: groupRoom, Text: "y"})
		sent <- err
	}()
	waiting(t, s, 1)
	s.hub.Gone("m")
	resume()
	if err := <-sent; !errors.Is(err, ErrConflict) {
		t.Error(err)
	}
	notify(t, s, m)
	if n := ben.notice(t, "m"); n.Message == nil {
		t.Error("the notice for a user who has the message lacks its facts")
	}
}

// pauseWrites keeps the store's writer busy until resume is called.
func pauseWrites(t *testing.T, s *Server) (resume func()) {
	t.Helper()
	busy, done := make(chan struct{}), make(chan struct{})
	go func() {
		_ = s.store.apply(context.Background(), func(*writeTx) error { close(busy); <-done; return nil })
	}()
	<-busy
	return func() { close(done) }
}

// waiting returns once so many writes wait for the store's writer.
func waiting(t *testing.T, s *Server, n int) {
	t.Helper()
	for ctx := testContext(t); len(s.store.jobs) < n; runtime.Gosched() {
		if ctx.Err() != nil {
			t.Fatalf("%d writes wait", len(s.store.jobs))
		}
	}
}

// Its recall is committed, and no step has run yet.
func TestSend_RecalledMessage(t *testing.T) {
	var recalled atomic.Bool
	s := newStubServer(t, &index{onIndex: func(shared.Message) (shared.IndexStatus, error) {
		if recalled.Load() {
			return shared.IndexRecalled, nil
		}
		return shared.IndexAdded, nil
	}})
	out := Outgoing{ID: "m", Conversation: singleRoom, Text: "x"}
	for m := send(t, s, "ann", out); !m.indexed; { // its note is on the way to the store
		var err error
		if m, _, err = s.store.Message(testContext(t), "m"); err != nil {
			t.Fatal(err)
		}
	}
	recalled.Store(true)
	if _, err := s.Send(testContext(t), "ann", out); !errors.Is(err, ErrRecalled) {
		t.Errorf("sent again: %v", err)
	}
}

// What the plugin calls recalled is not delivered late, though the server's own stores have not heard of it yet.
func TestLateDelivery_AsksThePlugin(t *testing.T) {
	s := newStubServer(t, &index{onStatus: func(id string) shared.MessageState {
		if id == "recalled" {
			return shared.MessageRecalled
		}
		return shared.MessageLive
	}})
	for _, id := range []string{"recalled", "live"} {
		send(t, s, "dan", Outgoing{ID: id, Conversation: groupRoom, Text: id})
	}
	ben := connect(t, s, "ben")
	ben.wait(t, "message", "live")
	if _, got := ben.has("message", "recalled"); got {
		t.Error("the recalled message was delivered")
	}
}

// A client that does not read is cut off, and gets everything when it is back.
func TestStream_SlowClient(t *testing.T) {
	s := newStubServer(t, &index{})
	slow, err := s.Connect("ben")
	if err != nil {
		t.Fatal(err)
	}
	const n = maxClientQueue + 20
	for i := range n {
		send(t, s, "ann", Outgoing{ID: fmt.Sprint(i), Conversation: singleRoom, Text: "x"})
	}
	if s.hub.Present("ben") {
		t.Fatal("the queue has no bound")
	}
	if _, err := slow.Next(testContext(t)); !errors.Is(err, errCutOff) {
		t.Errorf("it is not told to synchronize: %v", err)
	}
	if err := slow.Leave(); err != nil {
		t.Fatal(err)
	}
	ben := connect(t, s, "ben")
	for i := range n {
		ben.wait(t, "message", fmt.Sprint(i))
	}
	ben.leave(t)
	if left, err := s.store.Queued(testContext(t), "ben", 0, 10); err != nil || len(left) > 0 {
		t.Errorf("what arrived still waits: %v, %v", left, err)
	}
}

// A frame that was given out and never confirmed waits for the user again.
func TestStream_LostFrame(t *testing.T) {
	s := newStubServer(t, &index{})
	c, err := s.Connect("ben")
	if err != nil {
		t.Fatal(err)
	}
	send(t, s, "ann", Outgoing{ID: "m", Conversation: singleRoom, Text: "x"})
	if f, err := c.Next(testContext(t)); err != nil || f.ID != "m" {
		t.Fatalf("%v, %v", f, err)
	}
	if err := c.Leave(); err != nil { // the connection broke while it was written
		t.Fatal(err)
	}
	connect(t, s, "ben").wait(t, "message", "m")
}

// The plugin cannot answer: the sender is told so, and the message is indexed and delivered later by itself.
func TestRepair_IndexFailed(t *testing.T) {
	for _, room := range []shared.Conversation{singleRoom, lobby} {
		up := make(chan struct{})
		isUp := func() bool {
			select {
			case <-up:
				return true
			default:
				return false
			}
		}
		s := newStubServer(t, &index{
			onIndex: func(shared.Message) (shared.IndexStatus, error) {
				if isUp() {
					return shared.IndexAdded, nil
				}
				return "", shared.ErrUnavailable
			},
			onStatus: func(string) shared.MessageState {
				if isUp() {
					return shared.MessageLive
				}
				return shared.MessageUnknown
			},
		})
		ben := connect(t, s, "ben")
		if _, err := s.Send(testContext(t), "ann", Outgoing{ID: "m", Conversation: room, Text: "x"}); !errors.Is(err,
			shared.ErrUnavailable) {
			t.Fatalf("the sender is not told: %v", err)
		}
		if _, got := ben.has("message", "m"); got {
			t.Error("delivered before it can be recalled")
		}
		close(up)
		s.repair.Wake()
		ben.wait(t, "message", "m")
	}
}

// The first attempt fails after another one has indexed the message, so nothing is left to repair.
func TestSend_IndexedByAnotherAttempt(t *testing.T) {
	var s *Server
	var again atomic.Bool
	out := Outgoing{ID: "m", Conversation: singleRoom, Text: "x"}
	s = newStubServer(t, &index{onIndex: func(shared.Message) (shared.IndexStatus, error) {
		if again.Swap(true) {
			return shared.IndexAdded, nil
		}
		send(t, s, "ann", out)
		return "", context.Canceled
	}})
	ben := connect(t, s, "ben")
	if _, err := s.Send(testContext(t), "ann", out); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	ben.wait(t, "message", "m")
}

// While a message that could not be indexed moves from the hub to the queues of the store, one of them has it.
func TestHub_Undelivered(t *testing.T) {
	var s *Server
	var once sync.Once
	paused := make(chan func(), 1)
	s = newStubServer(t, &index{onIndex: func(shared.Message) (shared.IndexStatus, error) {
		once.Do(func() { paused <- pauseWrites(t, s) })
		return "", context.Canceled
	}})
	connect(t, s, "ben")
	sent := make(chan error)
	go func() {
		_, err := s.Send(testContext(t), "ann", Outgoing{ID: "m", Conversation: singleRoom, Text: "x"})
		sent <- err
	}()
	resume := <-paused
	waiting(t, s, 1)
	s.hub.Gone("m")
	if _, missed := s.hub.Received("m"); !missed["ben"] {
		t.Error("nobody knows that ben has not got it")
	}
	resume()
	if err := <-sent; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Who connects while a message is being indexed does not find it in the history yet.
func TestHub_ComesDuringIndex(t *testing.T) {
	for _, room := range []shared.Conversation{groupRoom, lobby} {
		var s *Server
		var ben *device
		s = newStubServer(t, &index{onIndex: func(shared.Message) (shared.IndexStatus, error) {
			ben = connect(t, s, "ben")
			return shared.IndexAdded, nil
		}})
		send(t, s, "ann", Outgoing{ID: "m", Conversation: room, Text: "x"})
		ben.wait(t, "message", "m")
	}
}

// The plugin is asked about a waiting message just before it is indexed; the wake-up comes while its answer is acted
// upon.
func TestHub_WakeUp(t *testing.T) {
	var s *Server
	var asked atomic.Bool
	s = newStubServer(t, &index{onStatus: func(string) shared.MessageState {
		if asked.Swap(true) {
			return shared.MessageLive
		}
		s.hub.Poke([]string{"ben"})
		return shared.MessageUnknown
	}})
	send(t, s, "ann", Outgoing{ID: "m", Conversation: singleRoom, Text: "x"})
	connect(t, s, "ben").wait(t, "message", "m")
}

// A recall comes between the moment at which a client takes a frame and the moment at which it is written.
func TestHub_WholeFrames(t *testing.T) {
	s := newStubServer(t, &index{})
	ben, err := s.Connect("ben")
	if err != nil {
		t.Fatal(err)
	}
	connectedToo, err := s.Connect("cleo") // it waits for her, so a recall finds it
	if err != nil {
		t.Fatal(err)
	}
	send(t, s, "ann", Outgoing{ID: "m", Conversation: groupRoom, Text: "x"})
	d, _, _, err := ben.take()
	if err != nil || d == nil {
		t.Fatal(d, err)
	}
	s.hub.Gone("m")
	if len(d.body) == 0 {
		t.Error("the frame has lost its body")
	}
	if err := errors.Join(ben.Leave(), connectedToo.Leave()); err != nil {
		t.Error(err)
	}
}

// A client confirms what it got from the store while the recall looks who has it.
func TestNotice_ConfirmedDuringRecall(t *testing.T) {
	s := newStubServer(t, &index{})
	for i := range 20 { // each a chance to look in the wrong order
		m := send(t, s, "ann", Outgoing{ID: fmt.Sprint(i), Conversation: singleRoom, Text: "x"})
		ben, err := s.Connect("ben")
		if err != nil {
			t.Fatal(err)
		}
		for f := (Frame{}); f.ID != m.ID; { // after the notice of the one before
			if f, err = ben.Next(testContext(t)); err != nil {
				t.Fatal(err)
			}
		}
		resume := pauseWrites(t, s)
		told := make(chan struct{})
		go func() { notify(t, s, m); close(told) }()
		waiting(t, s, 1)
		frames := make(chan Frame)
		go func() {
			f, err := ben.Next(testContext(t))
			if err != nil {
				t.Error(err)
			}
			frames <- f
		}()
		waiting(t, s, 2)
		resume()
		var n shared.Notice
		if err := json.Unmarshal((<-frames).Body, &n); err != nil || n.MessageID != m.ID || n.Message == nil {
			t.Errorf("%+v, %v", n, err)
		}
		<-told
		if err := ben.Leave(); err != nil {
			t.Error(err)
		}
	}
}

// The step notify is late: the step offline has emptied the queues, which tell who has not got the message.
func TestNotice_AfterTheQueues(t *testing.T) {
	s := newStubServer(t, &index{})
	m := send(t, s, "ann", Outgoing{ID: "m", Conversation: groupRoom, Text: "x"})
	if _, err := s.store.Dequeue(testContext(t), m.ID, m.Conversation); err != nil {
		t.Fatal(err)
	}
	notify(t, s, m)
	if n := connect(t, s, "ben").notice(t, "m"); n.Message != nil {
		t.Errorf("the notice for a user who never got the message has its facts: %+v", n.Message)
	}
}

// The step notify runs twice. Only the first run knows that the recall struck the message from the queue of a client.
func TestNotice_Repeated(t *testing.T) {
	s := newStubServer(t, &index{onIndex: func(m shared.Message) (shared.IndexStatus, error) {
		return shared.IndexRecalled, nil
	}})
	ben, err := s.Connect("ben")
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Send(testContext(t), "ann", Outgoing{ID: "m", Conversation: groupRoom, Text: "x"})
	if !errors.Is(err, ErrRecalled) {
		t.Fatal(err)
	}
	if err := ben.Leave(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		notify(t, s, m)
	}
	if n := connect(t, s, "ben").notice(t, "m"); n.Message != nil {
		t.Errorf("the notice for a user who never got the message has its facts: %+v", n.Message)
	}
}

// A client confirms a message after the step notify has read the queues and before it keeps the notice.
func TestKeep_ConfirmedMeanwhile(t *testing.T) {
	s := newStubServer(t, &index{})
	ctx := testContext(t)
	m := send(t, s, "ann", Outgoing{ID: "m", Conversation: groupRoom, Text: "x"})
	queued, err := s.store.QueuedFor(ctx, m.ID)
	if err != nil || !queued["ben"] || !queued["dan"] {
		t.Fatal(queued, err)
	}
	if err := s.store.Got(ctx, "ben", []string{m.ID}, nil); err != nil {
		t.Fatal(err)
	}
	e := shared.Event{Tenant: Tenant, RecallID: "r", Actor: shared.Actor{ID: "ann"}, Message: m.Message}
	if err := s.store.Keep(ctx, m.ID, encode(e.Notice(true)), map[string]bool{"ben": false, "dan": false},
		queued); err != nil {
		t.Fatal(err)
	}
	for user, had := range map[string]bool{"ben": true, "dan": false} {
		if n := connect(t, s, user).notice(t, m.ID); (n.Message != nil) != had {
			t.Errorf("%s got the message: %v; the facts in the notice: %+v", user, had, n.Message)
		}
	}
}

func TestNotice_LeftTheChatroom(t *testing.T) {
	s := newStubServer(t, &index{onStatus: func(string) shared.MessageState { return shared.MessageRecalled }})
	asleep, err := s.Connect("ben")
	if err != nil {
		t.Fatal(err)
	}
	m := send(t, s, "ann", Outgoing{ID: "m", Conversation: lobby, Text: "x"})
	if err := asleep.Leave(); err != nil {
		t.Fatal(err)
	}
	ben := connect(t, s, "ben")
	notify(t, s, m)
	if n := ben.notice(t, "m"); n.Message != nil {
		t.Errorf("%+v", n.Message)
	}
}

// The server dies between storing a message and indexing it. Who was connected finds it in the history when they are
// back.
func TestRepair_CrashBeforeIndex(t *testing.T) {
	dir := t.TempDir()
	s, err := newServer(Data{Folder: dir}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	if err := addDemo(ctx, s); err != nil {
		t.Fatal(err)
	}
	m, err := s.accept("ann", Outgoing{ID: "m", Conversation: singleRoom, Text: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.Insert(ctx, &m, []string{"ben"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = newServer(Data{Folder: dir}, hclog.NewNullLogger()); err != nil {
		t.Fatal(err)
	}
	indexed := make(chan string, 1)
	s.start(testContext(t), &index{onIndex: func(m shared.Message) (shared.IndexStatus, error) {
		indexed <- m.ID
		return shared.IndexAdded, nil
	}}, func() error { return nil })
	select {
	case id := <-indexed:
		if id != "m" {
			t.Errorf("indexed %s", id)
		}
	default:
		t.Error("the server can be used and a message is not in the history yet")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// After any of the steps, a message that was on its way into a queue does not get there any more.
func TestRepair_AfterAStep(t *testing.T) {
	s := newStubServer(t, &index{})
	ctx := testContext(t)
	m := send(t, s, "ann", Outgoing{ID: "m", Conversation: singleRoom, Text: "x"})
	if _, err := s.store.Dequeue(ctx, m.ID, m.Conversation); err != nil {
		t.Fatal(err)
	}
	if err := s.store.Enqueue(ctx, []string{"ben"}, m.ID); err != nil {
		t.Fatal(err)
	}
	if left, err := s.store.Queued(ctx, "ben", 0, 10); err != nil || len(left) > 0 {
		t.Errorf("it is back in the queue: %v, %v", left, err)
	}
}

// One write that fails must not undo the others of its transaction.
func TestStore_FailedWrite(t *testing.T) {
	s := newStubServer(t, &index{})
	ctx := testContext(t)
	broken := errors.New("broken")
	errs := make(chan error, 40)
	for i := range cap(errs) {
		go func() {
			err := s.store.apply(ctx, func(tx *writeTx) error {
				if err := tx.exec("INSERT INTO tombstones (id, conversation) VALUES (?, '')", fmt.Sprint(i)); err != nil {
					return err
				}
				if i%2 == 0 {
					return broken
				}
				return nil
			})
			if errors.Is(err, broken) == (i%2 == 1) {
				err = fmt.Errorf("write %d: %w", i, err)
			} else {
				err = nil
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	var n int
	if err := s.store.read.QueryRow("SELECT COUNT(*) FROM tombstones").Scan(&n); err != nil || n != cap(errs)/2 {
		t.Errorf("%d of %d writes are there, %v", n, cap(errs)/2, err)
	}
}

// Between its release and the queue of the store a message is in neither.
func TestHub_CutOffBeforeDelivery(t *testing.T) {
	s := newStubServer(t, &index{})
	ben, err := s.Connect("ben")
	if err != nil {
		t.Fatal(err)
	}
	held, _, _ := s.hub.Hold("m", nil, []Member{{User: "ben"}})
	s.hub.Kick("ben")
	if left := s.hub.Release(held, bodies{body: json.RawMessage("{}")}); len(left) != 1 || left[0] != "ben" {
		t.Errorf("left: %v", left)
	}
	s.hub.Gone("m") // a recall
	if got, missed := s.hub.Received("m"); got["ben"] || !missed["ben"] {
		t.Errorf("got by %v, missed by %v", got, missed)
	}
	s.hub.Left(held)
	if err := ben.Leave(); err != nil {
		t.Fatal(err)
	}
}

func TestHub_CutOffAfterDelivery(t *testing.T) {
	s := newStubServer(t, &index{})
	m1 := send(t, s, "ann", Outgoing{ID: "m1", Conversation: singleRoom, Text: "x"})
	send(t, s, "ann", Outgoing{ID: "m2", Conversation: singleRoom, Text: "x"})
	ben, err := s.Connect("ben")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"m1", "m2"} { // taking the second one confirms the first
		if f, err := ben.Next(testContext(t)); err != nil || f.ID != id {
			t.Fatal(f, err)
		}
	}
	s.hub.Kick("ben")
	notify(t, s, m1)
	if err := ben.Leave(); err != nil {
		t.Fatal(err)
	}
	if n := connect(t, s, "ben").notice(t, "m1"); n.Message == nil {
		t.Error("ben has it and is not told what it was")
	}
}

func TestNotice_JoinedTheChatroom(t *testing.T) {
	t.Run("recalled before it came", func(t *testing.T) {
		var s *Server
		s = newStubServer(t, &index{onIndex: func(m shared.Message) (shared.IndexStatus, error) {
			stored, _, err := s.store.Message(testContext(t), m.ID)
			if err != nil {
				t.Error(err)
			}
			notify(t, s, stored)
			if _, err := s.store.Remove(testContext(t), m.ID, m.Conversation); err != nil {
				t.Error(err)
			}
			return shared.IndexAdded, nil
		}, onStatus: func(string) shared.MessageState { return shared.MessageRecalled }})
		resume := pauseWrites(t, s)
		sent := make(chan error, 1)
		go func() {
			_, err := s.Send(testContext(t), "ann", Outgoing{ID: "m", Conversation: lobby, Text: "x"})
			sent <- err
		}()
		waiting(t, s, 1)
		ben := connect(t, s, "ben") // while it is being stored
		resume()
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		if n := ben.notice(t, "m"); n.Message != nil {
			t.Errorf("ben never got it, and his notice has its facts: %+v", n.Message)
		}
	})
	t.Run("recalled after it came", func(t *testing.T) {
		var s *Server
		var ben *device
		s = newStubServer(t, &index{onIndex: func(shared.Message) (shared.IndexStatus, error) {
			ben = connect(t, s, "ben")
			return shared.IndexAdded, nil
		}})
		m := send(t, s, "ann", Outgoing{ID: "m", Conversation: lobby, Text: "x"})
		ben.wait(t, "message", "m")
		for ctx := testContext(t); ctx.Err() == nil; runtime.Gosched() { // until it is ben's and no queue's
			queued, err := s.store.QueuedFor(ctx, "m")
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := s.hub.Received("m"); len(queued)+len(got) == 0 {
				break
			}
		}
		notify(t, s, m)
		if n := ben.notice(t, "m"); n.Message == nil {
			t.Error("ben has it and is not told what it was")
		}
	})
	t.Run("indexed at the second attempt", func(t *testing.T) {
		var s *Server
		var ben *device
		s = newStubServer(t, &index{onIndex: func(shared.Message) (shared.IndexStatus, error) {
			if ben == nil {
				ben = connect(t, s, "ben")
				return "", shared.ErrUnavailable
			}
			return shared.IndexAdded, nil
		}})
		if _, err := s.Send(testContext(t), "ann", Outgoing{ID: "m", Conversation: lobby, Text: "x"}); !errors.Is(err,
			shared.ErrUnavailable) {
			t.Fatal(err)
		}
		ben.wait(t, "message", "m")
	})
}

func TestRepair_RestoredStore(t *testing.T) {
	s, _ := newTestServer(t)
	out := Outgoing{ID: "m", Conversation: groupRoom, Text: "x", SentAt: time.Now()}
	send(t, s, "ann", out)
	settled(t, s, takeBack(t, s, "ann", adapter.Ask{MessageIDs: []string{"m"}}).RecallID)
	if err := s.store.apply(testContext(t),
		func(tx *writeTx) error { return tx.exec("DELETE FROM tombstones WHERE id = 'm'") }); err != nil {
		t.Fatal(err) // as an older backup would have it
	}
	if _, err := s.Send(testContext(t), "ann", out); !errors.Is(err, ErrRecalled) {
		t.Fatal(err)
	}
	if _, found, err := s.store.Message(testContext(t), "m"); found || err != nil {
		t.Errorf("it is in the history: %v", err)
	}
	if queued, err := s.store.QueuedFor(testContext(t), "m"); len(queued) > 0 || err != nil {
		t.Errorf("it is in the queues of %v, %v", queued, err)
	}
}
