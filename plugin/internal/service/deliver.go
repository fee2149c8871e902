package service

import (
	"context"
	"sync"

	"github.com/chat-recall/recall/shared"
)

var _ shared.Deliverer = (*Service)(nil)

// Deliver is shared.Deliverer. Each delivery asks for one step.
func (s *Service) Deliver(ctx context.Context, handle func([]shared.Event)) error {
	a, leave, err := s.enter()
	if err != nil {
		return err
	}
	leave() // Quiesce waits for the dispatcher, and not for what the host does in handle
	return a.dispatcher.run(ctx, handle)
}

// Events is shared.Recall.
func (s *Service) Events(ctx context.Context, handle func(shared.Event, shared.Settler)) error {
	var handlers sync.WaitGroup
	defer handlers.Wait()
	return s.Deliver(ctx, func(events []shared.Event) {
		for _, e := range events {
			handlers.Go(func() { handle(e, shared.EventSettler(s, e)) })
		}
	})
}
