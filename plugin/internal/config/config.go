// Package config is the plugin's view of plugin.hcl.
package config

import (
	"time"

	"github.com/chat-recall/recall/internal/config"
	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/shared"
)

// Config is what the plugin takes from plugin.hcl. Paths are absolute.
type Config struct {
	IndexPath    string        // the folder of the index; missing folders are made
	IndexCreate  bool          // make a new, empty index though one was here before
	KeepMessages time.Duration // live messages that were sent longer ago are dropped; 0: none are

	RulePaths []string // rule files, and folders of them; none: the built-in policy

	RefuseBrokenRules bool // a start with broken rule files fails, instead of using the last policy that was in force

	Cluster *config.ClusterBlock // nil: this node shares its index with no other
}

// Load reads and checks the file. The Config is nil where there are errors, and never a part of one.
func Load(file string) (*Config, shared.Diagnostics) { return of(config.Plugin.Load(file)) }

// Parse is Load for a file whose text is at hand.
func Parse(file string, src []byte) (*Config, shared.Diagnostics) {
	return of(config.Plugin.Parse(file, src))
}

func of(f *config.File, found hclfile.Diagnostics) (*Config, shared.Diagnostics) {
	ds := config.Diagnostics(found)
	if f == nil {
		return nil, ds
	}
	return &Config{
		IndexPath: f.Index.Path, IndexCreate: f.Index.Create, KeepMessages: f.Index.KeepMessages, RulePaths: f.Rules.Paths,
		RefuseBrokenRules: f.Rules.OnError == config.OnErrorRefuse, Cluster: f.Cluster,
	}, ds
}
