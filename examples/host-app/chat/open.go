package chat

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
)

// openTimeout bounds the start of the plugin.
const openTimeout = time.Minute

// Open is all that it takes to give this server recalls: load the plugin that plugin.hcl names, tell it which steps the
// server carries out, and call it where a message is sent (Server.Send) and taken back (Server.Recall).
func Open(ctx context.Context, data Data, c host.Config, log hclog.Logger) (*Server, *host.Host, error) {
	s, err := newServer(data, log)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	c.Steps, c.Logger = s.steps(), log
	var member membership
	c.OnState = func(state host.State) {
		if member.beganAnew(state.Cluster) {
			s.hub.KickAll() // they connect again, and load what they show
		}
	}
	recall, err := host.Open(ctx, c)
	if err != nil {
		_ = s.Close()
		return nil, nil, fmt.Errorf("load the recall plugin: %w", err)
	}
	s.start(ctx, recall, recall.Close)
	return s, recall, nil
}
