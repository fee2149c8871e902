package main

import (
	"context"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/config"
	"github.com/chat-recall/recall/plugin/internal/engine"
	"github.com/chat-recall/recall/plugin/internal/journal/jetstream"
)

// openCluster connects to the log of the cluster that plugin.hcl names.
func openCluster(ctx context.Context, c *config.ClusterBlock, logger hclog.Logger) (engine.ClusterLink, error) {
	link, err := jetstream.Open(ctx, jetstream.OptionsOf(c, logger))
	if err != nil {
		return nil, err // and no link that is not nil
	}
	return link, nil
}
