package service

import (
	"context"

	"github.com/chat-recall/recall/shared"
)

// Deliver is [wire.Plugin].
func (s *Service) Deliver(ctx context.Context, handle func([]shared.Delivery)) error {
	a, leave, err := s.enter()
	if err != nil {
		return err
	}
	leave() // Quiesce waits for the dispatcher, and not for what the host does in handle
	return a.dispatcher.run(ctx, handle)
}
