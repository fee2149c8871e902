package host

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/chat-recall/recall/internal/config"
	"github.com/chat-recall/recall/shared"
)

// A Binary is a plugin binary to run.
type Binary struct {
	Path string // of an executable file; in plugin.hcl relative to that file, else to the working directory

	// SHA256 of the file, in hex. Nothing else runs under this name. Empty takes the file as it is at this moment,
	// and runs that until the next upgrade.
	SHA256 string
}

// PluginConfig is the block "plugin" of plugin.hcl in Go.
type PluginConfig struct {
	Binary       string        // path of the recall-plugin
	SHA256       string        // of it, in hex; nothing else runs. Empty takes the file as it is, until the next upgrade
	StartTimeout time.Duration // of the start, and again of the check of the configuration; 0 means 10 s, at most 10 min
	Watch        bool          // upgrade to a new file at the path of Binary
}

// IndexConfig is the block "index" of plugin.hcl in Go.
type IndexConfig struct {
	Path   string // of the folder of the index; missing folders are made
	Create bool   // make a new, empty index though one was here before
}

// RulesConfig is the block "rules" of plugin.hcl in Go.
type RulesConfig struct {
	Paths []string // rule files, and folders of them; none: the built-in policy

	// RefuseBroken makes a start with broken rule files fail. Otherwise the last policy that was in force decides until
	// they are mended.
	RefuseBroken bool
}

// inGo tells whether c has its configuration in Go. A mixture of both is refused.
func (c *Config) inGo() (bool, error) {
	set := c.Plugin != (PluginConfig{}) || c.Index != (IndexConfig{}) || len(c.Rules.Paths) > 0 || c.Rules.RefuseBroken
	switch {
	case set && c.File != "":
		return false, shared.Invalidf("host.Config.File", "is set, and so is Plugin, Index or Rules: set one or the other")
	case !set && c.File == "":
		return false, shared.Invalidf("host.Config.File", "is empty: name the plugin.hcl to load, or set Plugin and Index")
	case set && c.Plugin.Binary == "":
		return false, shared.Invalidf("host.Config.Plugin.Binary", "is empty: name the recall-plugin binary")
	case set && c.Index.Path == "":
		return false, shared.Invalidf("host.Config.Index.Path", "is empty: name the folder of the index")
	}
	return set, nil
}

// write writes the plugin.hcl of a configuration in Go, for the plugin to read.
func (c *Config) write(file string) error {
	f := config.File{
		Plugin: config.PluginBlock{
			Binary: absolute(c.Plugin.Binary), SHA256: c.Plugin.SHA256, StartTimeout: c.Plugin.StartTimeout,
			Watch: c.Plugin.Watch,
		},
		Index: config.IndexBlock{Path: absolute(c.Index.Path), Create: c.Index.Create},
	}
	for _, p := range c.Rules.Paths {
		f.Rules.Paths = append(f.Rules.Paths, absolute(p))
	}
	if c.Rules.RefuseBroken {
		f.Rules.OnError = config.OnErrorRefuse
	}
	temp := file + ".new"
	if err := os.WriteFile(temp, f.Text(), 0o600); err != nil {
		return fmt.Errorf("write the configuration of the plugin: %w", err)
	}
	if err := os.Rename(temp, file); err != nil {
		return fmt.Errorf("write the configuration of the plugin: %w", err)
	}
	return nil
}

// settings are what the host takes from plugin.hcl: its own block, and where the index is, which must not change under
// it.
type settings struct {
	file string // absolute
	config.File
}

func (s settings) binary() Binary { return Binary{Path: s.Plugin.Binary, SHA256: s.Plugin.SHA256} }

// readSettings reads and checks plugin.hcl.
func readSettings(path string) (settings, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return settings{}, err
	}
	f, ds := config.Host.Load(path)
	if f == nil {
		return settings{}, fmt.Errorf("plugin configuration: %w", config.Diagnostics(ds).Err())
	}
	return settings{file: abs, File: *f}, nil
}

// ConfiguredBinary is the binary that a plugin.hcl names, for a program that builds or installs it.
func ConfiguredBinary(file string) (Binary, error) {
	s, err := readSettings(file)
	return s.binary(), err
}

// sameIndex refuses a plugin.hcl that names another index than the one that this host has open: the next plugin would
// begin one that knows nothing of what was sent and recalled. It is asked once that plugin has read and checked the
// file. A mistake in the block of the host is no reason to be without a plugin. It returns what the file says.
func (s settings) sameIndex() (*config.File, error) {
	now, ds := config.Plugin.Load(s.file)
	if now == nil {
		return nil, fmt.Errorf("plugin configuration: %w", config.Diagnostics(ds).Err())
	}
	if now.Index.Path != s.Index.Path {
		return nil, fmt.Errorf("%s: index.path is %q, and was %q when this server opened it: "+
			"change it back, or stop the server to move the index",
			s.file, now.Index.Path, s.Index.Path)
	}
	return now, nil
}
