package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/chat-recall/recall/shared"
)

const (
	clusterIndexers = 4
	clusterRacers   = 3
	clusterBatch    = 20 // messages of a call

	// tryTimeout is how long a client waits for a node before it goes to another one.
	tryTimeout = 5 * time.Second
	tryPause   = 50 * time.Millisecond

	// answerTimeout is how long a client tries at all.
	answerTimeout = 90 * time.Second
)

// A sentMessage is one that the load has written.
type sentMessage struct {
	shared.Message
	node *clusterNode // that acknowledged it; nil: none has

	// Of one that was raced.
	raced    time.Duration  // when that began; 0: it was not
	winner   string         // the recall id in the answers; empty: there was none
	answered []*clusterNode // nodes that answered
}

// clusterLoad is a load of clients: some index messages, others recall the newest at once on every node.
type clusterLoad struct {
	c      *cluster
	stop   context.CancelFunc
	giveUp context.CancelFunc // of those who wait for an answer
	trying context.Context    // until then
	ended  sync.WaitGroup

	mu            sync.Mutex // guards the following
	messages      []*sentMessage
	fresh         []*sentMessage // acknowledged, and not raced yet
	retries       int
	index, recall stall
	failures      []string // what is wrong already
	lost          int      // acknowledged messages that were not found
	winnersDiffer int
}

// A stall is the longest time without any acknowledgement.
type stall struct {
	last, longest time.Duration
}

func (s *stall) acknowledged() {
	at := now()
	s.longest, s.last = max(s.longest, at-s.last), at
}

// startLoad starts the clients of a cluster.
func startLoad(ctx context.Context, c *cluster) *clusterLoad {
	l := &clusterLoad{c: c, index: stall{last: now()}, recall: stall{last: now()}}
	l.trying, l.giveUp = context.WithCancel(ctx)
	ctx, l.stop = context.WithCancel(ctx)
	for w := range clusterIndexers {
		l.ended.Go(func() { l.indexMessages(ctx, w) })
	}
	for range clusterRacers {
		l.ended.Go(func() { l.raceMessages(ctx) })
	}
	return l
}

// finish ends the load. It returns when every client has its answer.
func (l *clusterLoad) finish() {
	l.mu.Lock()
	l.index.acknowledged()
	l.recall.acknowledged()
	l.mu.Unlock()
	l.stop()
	l.ended.Wait()
	l.giveUp()
}

// abandon ends the load of a cluster that answers no more.
func (l *clusterLoad) abandon() {
	l.giveUp()
	l.finish()
}

func (l *clusterLoad) failed(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, fmt.Sprintf(format, args...))
}

// persist makes a call of a node, and of others with the same ids, until it is answered, as a client does. ok is false
// if it never was.
func persist[A any](l *clusterLoad, first *clusterNode, path string, question any) (a A, by *clusterNode, ok bool) {
	ctx, cancel := context.WithTimeout(l.trying, answerTimeout)
	defer cancel()
	for by = first; ; by = l.another(by) {
		try, end := context.WithTimeout(ctx, tryTimeout)
		answer, err := ask[A](try, by, path, question)
		end()
		if err == nil {
			return answer, by, true
		}
		l.mu.Lock()
		l.retries++
		l.mu.Unlock()
		select {
		case <-ctx.Done():
			if l.trying.Err() == nil {
				l.failed("%s has no answer after %s: %v", path, answerTimeout, err)
			}
			return a, nil, false
		case <-time.After(tryPause):
		}
	}
}

// another is on which node a call is made again. Where clocks differ it is the same one: others may refuse its times.
func (l *clusterLoad) another(last *clusterNode) *clusterNode {
	if l.c.skews != [clusterNodes]time.Duration{} {
		return last
	}
	return l.someNode()
}

func (l *clusterLoad) someNode() *clusterNode {
	all := l.c.all()
	return all[rand.IntN(len(all))]
}

// indexMessages is a client that writes.
func (l *clusterLoad) indexMessages(ctx context.Context, w int) {
	for k := 0; ctx.Err() == nil; k++ {
		node := l.someNode()
		batch := newBatch(w, k, time.Now().Add(node.skew))
		msgs := make([]shared.Message, len(batch))
		for i, m := range batch {
			msgs[i] = m.Message
		}
		l.mu.Lock()
		l.messages = append(l.messages, batch...)
		l.mu.Unlock()
		results, node, ok := persist[[]shared.IndexResult](l, node, "/index", msgs)
		if !ok {
			return
		}
		for _, r := range results {
			if r.Status != shared.IndexAdded && r.Status != shared.IndexUnchanged {
				l.failed("index %s: %s", r.MessageID, r.Status)
			}
		}
		l.mu.Lock()
		if ctx.Err() == nil {
			l.index.acknowledged()
		}
		for i, m := range batch {
			m.node = node
			if i%recalledOf == 0 {
				l.fresh = append(l.fresh, m)
			}
		}
		l.mu.Unlock()
		l.readOwnWrite(node, batch[0])
	}
}

// recalledOf is of how many messages one may be recalled.
const recalledOf = 5

// newBatch are new messages of a client, sent at a time. Those that may be recalled have attachments: one of their own,
// one of two of them, and one of all that the call has.
func newBatch(client, number int, at time.Time) (batch []*sentMessage) {
	chats := clusterChats()
	for i := range clusterBatch {
		m := shared.Message{
			Tenant: tenant, ID: fmt.Sprintf("m-%d-%d-%d", client, number, i), Conversation: chats[rand.IntN(len(chats))],
			Sender: clusterSender, Type: shared.TypeText, SentAt: at,
		}
		if i%recalledOf == 0 {
			m.Attachments = []shared.Attachment{
				{Key: "own-" + m.ID}, {Key: fmt.Sprintf("pair-%d-%d-%d", client, number, i/(2*recalledOf))},
				{Key: fmt.Sprintf("call-%d-%d", client, number)},
			}
		}
		batch = append(batch, &sentMessage{Message: m})
	}
	return batch
}

const (
	clusterSender        = "ann"
	clusterConversations = 50
)

// clusterChats are the conversations of all messages.
func clusterChats() (all []shared.Conversation) {
	for i := range clusterConversations {
		all = append(all, shared.Conversation{Type: shared.ConversationGroup, ID: fmt.Sprint("g", i)})
	}
	return all
}

// readOwnWrite checks that a node has what it acknowledged.
func (l *clusterLoad) readOwnWrite(node *clusterNode, m *sentMessage) {
	ctx, cancel := context.WithTimeout(context.Background(), tryTimeout)
	defer cancel()
	statuses, err := ask[[]shared.MessageStatus](ctx, node, "/status", []string{m.ID})
	if err == nil && statuses[0].State == shared.MessageUnknown {
		l.failed("%s has acknowledged %s, and does not know it", node.name, m.ID)
	}
}

// raceMessages is a client that recalls the newest message on every node at once.
func (l *clusterLoad) raceMessages(ctx context.Context) {
	for ctx.Err() == nil {
		var m *sentMessage
		l.mu.Lock()
		if last := len(l.fresh) - 1; last >= 0 {
			m, l.fresh = l.fresh[last], l.fresh[:last] // the newest: it may not be everywhere yet
			m.raced = now()
		}
		l.mu.Unlock()
		if m == nil {
			_ = l.c.wait(ctx, 5*time.Millisecond)
			continue
		}
		l.race(ctx, m)
	}
}

// race recalls a message on every node at once, each time under another id. One of them must win, for all.
func (l *clusterLoad) race(ctx context.Context, m *sentMessage) {
	nodes := l.c.all()
	results := make([]*shared.RecallResult, len(nodes))
	var racing sync.WaitGroup
	for i, node := range nodes {
		racing.Go(func() {
			req := shared.RecallRequest{
				Tenant: tenant, RecallID: fmt.Sprintf("r-%s-%d", m.ID, i), Actor: shared.Actor{ID: clusterSender},
				Targets: []shared.Target{{MessageID: m.ID, Conversation: m.Conversation, Role: shared.RoleMember}},
			}
			answer, by, ok := persist[[]shared.RecallResult](l, node, "/recall", req)
			if !ok {
				return
			}
			results[i] = &answer[0]
			l.mu.Lock()
			defer l.mu.Unlock()
			m.answered = append(m.answered, by)
			if ctx.Err() == nil {
				l.recall.acknowledged()
			}
		})
	}
	racing.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := m.judge(results); err != nil {
		l.failures = append(l.failures, err.Error())
		switch {
		case errors.Is(err, errNotFound):
			l.lost++
		case errors.Is(err, errWinners):
			l.winnersDiffer++
		}
	}
}

var (
	errNotFound = errors.New("an acknowledged message is not found")
	errWinners  = errors.New("several recalls have won")
)

// judge finds who won the race for a message. Recalls without an answer are nil.
func (m *sentMessage) judge(results []*shared.RecallResult) error {
	won := 0
	for _, r := range results {
		switch {
		case r == nil:
			continue
		case r.Status == shared.StatusNotFound:
			return fmt.Errorf("%w: %s", errNotFound, m.ID)
		case r.Status == shared.StatusRecalled:
			won++
		case r.Status != shared.StatusAlreadyRecalled:
			return fmt.Errorf("the recall of %s is %s %s", m.ID, r.Status, r.Code)
		}
		if m.winner == "" {
			m.winner = r.RecallID
		}
		if m.winner != r.RecallID || won > 1 {
			return fmt.Errorf("%w for %s: %s and %s", errWinners, m.ID, m.winner, r.RecallID)
		}
	}
	return nil
}
