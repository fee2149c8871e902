package chat

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// Tenant is the one tenant of this server.
const Tenant = "example"

const (
	// maxTextBytes is the longest text that a message may have here; the plugin never sees it.
	maxTextBytes = 1 << 20

	// callTimeout bounds a call to the plugin, so that a request is answered even while the plugin is being restarted.
	callTimeout = 30 * time.Second

	repairPage = 100 // messages that are read at a time to be indexed
)

var (
	errNoUser = errors.New("there is no such user")
)

// Server is the chat server: what the HTTP API and the replay call.
type Server struct {
	store   *Store
	files   *Files
	archive *Archive
	hub     *Hub
	log     hclog.Logger
	now     func() time.Time
	repair  adapter.Follower[Stored] // indexes what could not be indexed at once
	relay   relay
	done    sync.WaitGroup
	stop    context.CancelFunc
	close   func() error // of the plugin

	ready   chan struct{} // closed when recall is set
	recall  shared.Recall
	adapter *adapter.Adapter // of recall, for requests of users
}

// newServer opens the stores. It serves once start was called.
func newServer(data Data, log hclog.Logger) (*Server, error) {
	store, err := openStore(data)
	if err != nil {
		return nil, err
	}
	s := &Server{store: store, hub: NewHub(), log: log, now: time.Now, ready: make(chan struct{})}
	s.adapter = adapter.New(adapter.Config{Tenant: Tenant, Platform: platform{store}, Recalled: s.gone, Log: log})
	s.repair.What, s.repair.Read, s.repair.Do, s.repair.Log = "messages to index", s.unindexed, s.reindexAll, log
	if s.files, err = openFiles(filepath.Join(data.Folder, "files"), store); err == nil {
		err = s.relay.open(context.Background(), store)
	}
	if err == nil {
		s.archive, err = openArchive(filepath.Join(data.Folder, ArchiveFolder), func() time.Time { return s.now() })
	}
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return s, nil
}

// start gives the server its plugin and brings into the index what a crash left out of it: before anyone connects, so
// that those who were connected then, and have it in no queue of the store, find it in the history. Nobody waits for
// that longer than ctx.
func (s *Server) start(ctx context.Context, recall shared.Recall, closeRecall func() error) {
	running, stop := context.WithCancel(context.Background())
	s.recall, s.stop, s.close = recall, stop, closeRecall
	s.adapter.Attach(recall)
	close(s.ready)
	if err := s.repair.Once(ctx); err != nil {
		s.log.Warn("messages wait to be indexed; trying again", "error", err)
	}
	s.done.Go(func() { s.repair.Run(running) })
	s.done.Go(func() { s.purgeLoop(running) })
	if s.store.node == "" {
		return
	}
	if err := s.relayOnce(ctx); err != nil { // while nobody is connected: what is known already was delivered before
		s.log.Warn("messages of other servers wait to be passed on; trying again", "error", err)
	}
	s.done.Go(func() { s.relayLoop(running) })
}

// Close ends the server: clients, then the plugin, then the stores that its steps write to.
func (s *Server) Close() error {
	s.hub.KickAll()
	var err error
	if s.stop != nil {
		s.stop()
		s.done.Wait()
		err = s.close()
	}
	return errors.Join(err, s.archive.Close(), s.store.Close())
}

// Store is where messages are kept. It is for a tool that inspects the server, as Files and Hub are.
func (s *Server) Store() *Store { return s.store }

// Files are the attachments.
func (s *Server) Files() *Files { return s.files }

// Hub is what delivers to connected clients.
func (s *Server) Hub() *Hub { return s.hub }

// Ledger returns what became of each step of a recall.
func (s *Server) Ledger(ctx context.Context, recallID string) ([]shared.LedgerEntry, error) {
	return shared.ReadLedger(ctx, s.recall, Tenant, recallID)
}

// Outgoing is a message as its sender gives it.
type Outgoing struct {
	ID           string // empty: the server makes one
	Conversation shared.Conversation
	Type         shared.MessageType
	Text         string
	Attachments  []string

	// The ids of the messages that this one answers, gives a new text, or copies; empty: none.
	Quote, Edit, Forward string

	SentAt time.Time // zero: now
}

// Send accepts a message: when it returns without an error, the message is in the store and in the plugin's index, and
// is delivered to those who are connected. Sending the same message again under the same id changes nothing.
//
// The order matters. The store is first, so that nothing is lost. The index is before delivery, so that nobody sees a
// message that cannot be recalled. A crash between the two is repaired by start.
func (s *Server) Send(ctx context.Context, sender string, out Outgoing) (Stored, error) {
	members := s.store.Members(out.Conversation)
	if _, ok := s.store.Member(out.Conversation, sender); !ok {
		return Stored{}, adapter.ErrNotVisible
	}
	m, err := s.accept(sender, out)
	if err == nil {
		err = s.relate(ctx, &m, out)
	}
	if err != nil {
		return m, err
	}
	receivers := members
	if _, known, err := s.store.RoomOf(ctx, m.ID); err != nil {
		return m, err
	} else if known { // and held for nobody: a recall would take those for whom it is held for users who never got it
		receivers = nil
	}
	held, here, away := s.hub.Hold(m.ID, m.quotes(), receivers)
	away = slices.DeleteFunc(away, func(u string) bool { return u == sender })
	var queued, roaming []string
	if m.Conversation.Type != shared.ConversationChatroom { // a chatroom is for those who are there
		queued = away
		for _, member := range members {
			if member.roaming {
				roaming = append(roaming, member.User)
			}
		}
	}
	known, err := s.store.Insert(ctx, &m, queued, roaming)
	if err != nil || known {
		s.hub.Drop(held) // the first attempt delivers it, or has left it in the queues
		if err == nil {
			err = s.reindex(ctx, m) // indexed or not: the plugin knows whether it was recalled since
		}
		return m, err
	}
	if err = s.cameTo(ctx, m, away); err == nil {
		err = s.index(ctx, &m)
	}
	switch {
	case errors.Is(err, ErrRecalled):
		s.hub.Gone(m.ID)
		return m, err
	case errors.Is(err, ErrConflict):
		s.hub.Drop(held)
		return m, err
	case err != nil:
		// It is stored, so it will be delivered: later, from the queue. It is there before it is dropped here, so that a
		// recall always finds who has not got it.
		queueErr := errors.Join(s.cameTo(ctx, m, away), s.deliverLater(ctx, here, m.ID))
		s.hub.Drop(held)
		s.repair.Wake()
		return m, errors.Join(fmt.Errorf("the message is stored but not delivered yet, send it again with the id %s: %w",
			m.ID, err), queueErr)
	}
	s.store.MarkIndexed(m.ID)
	return m, s.release(ctx, m, held, away)
}

// release lets a held message go. away are those who were not connected when it was held.
func (s *Server) release(ctx context.Context, m Stored, held *delivery, away []string) error {
	left := s.hub.Release(held, m.bodies())
	err := s.cameTo(ctx, m, away)
	s.hub.Poke(away) // who came since
	if held.copied {
		s.hub.Poke(left)
	} else {
		err = errors.Join(err, s.deliverLater(ctx, left, m.ID))
	}
	s.hub.Left(held)
	return err
}

// cameTo leaves a message for those who came to a chatroom since Hold, who do not find it in the history yet. They were
// there when it was sent: a recall finds that they have not got it in their queues, and once they have, that they were
// present.
func (s *Server) cameTo(ctx context.Context, m Stored, away []string) error {
	if m.Conversation.Type != shared.ConversationChatroom {
		return nil
	}
	came := slices.DeleteFunc(slices.Clone(away), func(u string) bool { return !s.hub.Present(u) })
	if len(came) == 0 {
		return nil
	}
	err := s.store.Enqueue(context.WithoutCancel(ctx), came, m.ID)
	s.hub.Came(came, m.Seq)
	return err
}

// deliverLater leaves a message for users in their queues, and wakes those who are connected.
func (s *Server) deliverLater(ctx context.Context, users []string, id string) error {
	if len(users) == 0 {
		return nil
	}
	err := s.store.Enqueue(context.WithoutCancel(ctx), users, id)
	s.hub.Poke(users)
	return err
}

// accept checks a message and gives it what the server decides.
func (s *Server) accept(sender string, out Outgoing) (Stored, error) {
	m := Stored{Text: out.Text,
		Message: shared.Message{Tenant: Tenant, ID: out.ID, Conversation: out.Conversation,
			Sender: sender, Type: out.Type, SentAt: out.SentAt, Attachments: attachmentsOf(out.Attachments)}}
	if m.ID == "" {
		m.ID = newID()
	}
	if m.Type == "" {
		m.Type = shared.TypeText
	}
	if m.SentAt.IsZero() {
		m.SentAt = s.now()
	}
	m.SentAt = m.SentAt.Truncate(time.Microsecond).UTC()
	if len(m.Text) > maxTextBytes {
		return m, shared.Invalidf("text", "is %d bytes long; at most %d", len(m.Text), maxTextBytes)
	}
	if !utf8.ValidString(m.Text) {
		return m, shared.Invalidf("text", "is not valid UTF-8")
	}
	return m, nil
}

// index puts a stored message into the plugin's index. What it repeats of a recalled message is removed from it.
func (s *Server) index(ctx context.Context, m *Stored) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	results, err := s.recall.Index(ctx, []shared.Message{m.Message})
	if err != nil {
		return fmt.Errorf("index the message: %w", err)
	}
	switch r := results[0]; r.Status {
	case shared.IndexInvalid: // of what the client chose: its id, type, time and attachments
		return errors.Join(&shared.FieldError{Field: r.Field, Problem: r.Problem},
			s.store.Discard(context.WithoutCancel(ctx), m.ID))
	case shared.IndexConflict: // the id is another message's, which the store does not have: it must have lost something
		return errors.Join(ErrConflict, s.store.Discard(context.WithoutCancel(ctx), m.ID))
	case shared.IndexRecalled: // the steps of its recall take it away, once those concerned are told
		return errors.Join(ErrRecalled, s.removeLeftover(context.WithoutCancel(ctx), *m))
	}
	for _, r := range results[0].Related {
		if r.Kind != shared.RelationQuote {
			continue
		}
		if err := s.store.ClearQuotes(context.WithoutCancel(ctx), r.MessageID, m.ID); err != nil {
			return err
		}
		m.Quoted = ""
	}
	return nil
}

// removeLeftover removes a recalled message for which no step will run any more: the store has lost its tombstone.
func (s *Server) removeLeftover(ctx context.Context, m Stored) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	states, err := s.recall.Status(ctx, Tenant, []string{m.ID})
	if err != nil || states[0].RecallID == "" {
		return err
	}
	ledger, err := s.Ledger(ctx, states[0].RecallID)
	if err != nil {
		return err
	}
	for _, e := range ledger {
		if e.Event.Message.ID != m.ID {
			continue
		}
		if slices.ContainsFunc(e.Steps, func(st shared.StepRecord) bool { return !st.Outcome.Settles() }) {
			return nil
		}
		if err := s.store.setPlaceholder(ctx, adapter.FillReason(e.Event), nil); err != nil {
			return err
		}
	}
	for _, step := range []func(context.Context, string, shared.Conversation) (bool, error){
		s.store.Remove, s.store.Dequeue, s.store.Unroam,
	} {
		if _, err := step(ctx, m.ID, m.Conversation); err != nil {
			return err
		}
	}
	return nil
}

// unindexed is what is stored and not indexed, page by page.
func (s *Server) unindexed(ctx context.Context, after string) (page adapter.Page[Stored], err error) {
	seq, _ := strconv.ParseInt(after, 10, 64) // "" is before everything
	page.Items, err = s.store.Unindexed(ctx, seq, repairPage)
	if n := len(page.Items); n > 0 {
		page.Next, page.More = strconv.FormatInt(page.Items[n-1].Seq, 10), n == repairPage
	}
	return page, err
}

// reindexAll indexes what is stored already, and lets those who wait for it have it.
func (s *Server) reindexAll(ctx context.Context, list []Stored) error {
	for _, m := range list {
		if err := s.reindex(ctx, m); err != nil && !errors.Is(err, ErrRecalled) && !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return nil
}

// reindex indexes a message that is stored already, and lets those for whom it waits have it.
func (s *Server) reindex(ctx context.Context, m Stored) error {
	if err := s.index(ctx, &m); err != nil {
		return err
	}
	s.store.MarkIndexed(m.ID)
	waiting, err := s.store.QueuedFor(ctx, m.ID)
	s.hub.Poke(slices.Collect(maps.Keys(waiting)))
	return err
}

// live tells which of these messages may be shown: those that the plugin knows and that are not recalled. Everything
// that goes out late is asked for here, because a store learns of a recall a moment after it was committed.
func (s *Server) live(ctx context.Context, ids []string) (map[string]bool, error) {
	states, err := s.states(ctx, ids)
	if err != nil {
		return nil, err
	}
	live := make(map[string]bool, len(ids))
	for id, state := range states {
		live[id] = state == shared.MessageLive
	}
	return live, nil
}

func (s *Server) states(ctx context.Context, ids []string) (map[string]shared.MessageState, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	select {
	case <-s.ready: // steps may run before Open has returned
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	states := make(map[string]shared.MessageState, len(ids))
	for chunk := range slices.Chunk(ids, shared.MaxStatusIDs) {
		list, err := s.recall.Status(ctx, Tenant, chunk)
		if err != nil {
			return nil, fmt.Errorf("ask which messages are live: %w", err)
		}
		for _, st := range list {
			states[st.MessageID] = st.State
		}
	}
	return states, nil
}

// newID makes an id that sorts by time.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// encode is JSON for what cannot fail to encode, with < and & as they are, so that a leak is found as it was written.
func encode(v any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
