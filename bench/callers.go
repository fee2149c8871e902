package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/shared"
)

const (
	tenant      = "bench"
	callTimeout = 2 * time.Minute // longer than any restart: a call that fails after it is lost for a user
	recallEvery = 3               // of so many messages of a caller, one is taken back
)

func message(id string) shared.Message {
	return shared.Message{
		Tenant: tenant, ID: id, Conversation: conversation, Sender: "sender-1", Type: shared.TypeText, SentAt: time.Now(),
	}
}

var conversation = shared.Conversation{Type: shared.ConversationGroup, ID: "bench-group"}

// A recorder keeps which calls were acknowledged.
type recorder interface {
	indexed(id string)
	recalled(id, recallID string)
	failed(call, id string, err error)
	wrong(call, id, answer string)
}

// drive has callers index messages with ids of their own and take some back, at rate messages a second in all (0: as
// fast as it goes), until ctx ends. It returns when every call is answered.
func drive(ctx context.Context, r shared.Recall, note recorder, prefix string, callers, rate int) {
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			start := time.Now()
			for n := 0; ctx.Err() == nil; n++ {
				if rate > 0 {
					due := start.Add(time.Duration(n) * time.Second * time.Duration(callers) / time.Duration(rate))
					select {
					case <-time.After(time.Until(due)):
					case <-ctx.Done():
						return
					}
				}
				one(r, note, fmt.Sprintf("%s-%d-%d", prefix, c, n), n%recallEvery == 0)
			}
		})
	}
	all.Wait()
}

// openFilled opens a host whose steps and held calls j watches, and indexes n messages.
func openFilled(ctx context.Context, dir, config string, j *journal, n int) (*host.Host, error) {
	h, err := host.Open(ctx, host.Config{File: config, RunDir: dir, Steps: j.steps(), OnHeld: j.onHeld})
	if err != nil {
		return nil, err
	}
	if err := fill(ctx, h, n); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// startCallers drives callers in the background until finish is called, which returns when every call is answered.
func startCallers(ctx context.Context, r shared.Recall, note recorder, callers, rate int) (finish func()) {
	working, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		drive(working, r, note, "call", callers, rate)
	}()
	return func() {
		stop()
		<-done
	}
}

// one indexes a message and may take it back.
func one(r shared.Recall, note recorder, id string, takeBack bool) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	indexed, err := r.Index(ctx, []shared.Message{message(id)})
	if err != nil {
		note.failed("index", id, err)
		return
	}
	// "unchanged" is the answer to the repetition of a call whose first answer was lost.
	if s := indexed[0].Status; s != shared.IndexAdded && s != shared.IndexUnchanged {
		note.wrong("index", id, string(s))
		return
	}
	note.indexed(id)
	if !takeBack {
		return
	}
	recalled, err := r.Recall(ctx, shared.RecallRequest{
		Tenant: tenant, Actor: shared.Actor{ID: "sender-1"}, RecallID: "recall-" + id,
		Targets: []shared.Target{{MessageID: id, Conversation: conversation}},
	})
	if err != nil {
		note.failed("recall", id, err)
		return
	}
	if s := recalled[0].Status; s != shared.StatusRecalled {
		note.wrong("recall", id, string(s))
		return
	}
	note.recalled(id, recalled[0].RecallID)
}

// fill indexes n messages in large batches, several in flight.
func fill(ctx context.Context, r shared.Recall, n int) error {
	all, working := errgroup.WithContext(ctx)
	all.SetLimit(8)
	start := time.Now()
	for from := 0; from < n && working.Err() == nil; from += shared.MaxIndexBatch {
		all.Go(func() error {
			var batch []shared.Message
			for i := from; i < min(n, from+shared.MaxIndexBatch); i++ {
				batch = append(batch, message(fmt.Sprintf("fill-%d", i)))
			}
			_, err := r.Index(working, batch)
			return err
		})
		if from%(100*shared.MaxIndexBatch) == 0 && from > 0 {
			progress("filled %d of %d messages, %.0f a second", from, n, float64(from)/time.Since(start).Seconds())
		}
	}
	if err := all.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}
