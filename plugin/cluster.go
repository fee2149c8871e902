package main

import (
	"context"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/config"
	"github.com/chat-recall/recall/plugin/internal/engine"
	"github.com/chat-recall/recall/plugin/internal/journal/jetstream"
)

// openCluster connects to the log of the cluster that plugin.hcl names.
func openCluster(ctx context.Context, c *config.ClusterBlock, existing bool, logger hclog.Logger) (engine.ClusterLink,
	error) {
	o := jetstream.OptionsOf(c, logger)
	o.Existing = existing
	link, err := jetstream.Open(ctx, o)
	if err != nil {
		return nil, err // and no link that is not nil
	}
	return link, nil
}
