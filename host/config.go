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
	Path string // of an executable file; relative to the working directory, or in plugin.hcl to the folder of that file

	// SHA256 is the checksum of the file, in hex. A file with another one is refused with ErrChecksum. If it is empty, the
	// file is copied as it is now, and that copy runs until the next upgrade.
	SHA256 string
}

// PluginConfig is the Go form of the block "plugin" of plugin.hcl.
type PluginConfig struct {
	Binary       string        // path of the recall-plugin binary
	SHA256       string        // of Binary, in hex: see Binary.SHA256
	StartTimeout time.Duration // limit for the start, and for the check of the configuration; 0: 10 s; at most 10 min
	Watch        bool          // upgrade when a new file appears at the path of Binary
}

// IndexConfig is the Go form of the block "index" of plugin.hcl.
type IndexConfig struct {
	Path   string // folder of the index; it is created if it is missing
	Create bool   // make a new, empty index even if this host used an index here before
}

// RulesConfig is the Go form of the block "rules" of plugin.hcl.
type RulesConfig struct {
	Paths []string // rule files, and folders with rule files; empty: the built-in policy

	// RefuseBroken makes a start with broken rule files fail. Otherwise the last policy that was in force decides until
	// the files are fixed.
	RefuseBroken bool
}

// inGo reports whether the configuration is set in Go. It refuses a mixture of Go and File.
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

// plan returns the plugin.hcl of a configuration in Go, and nil if the server has a plugin.hcl of its own.
func (c *Config) plan() (*config.File, error) {
	if inGo, err := c.inGo(); err != nil || !inGo {
		return nil, err
	}
	f := &config.File{
		Plugin: config.PluginBlock{SHA256: c.Plugin.SHA256, StartTimeout: c.Plugin.StartTimeout, Watch: c.Plugin.Watch},
		Index:  config.IndexBlock{Create: c.Index.Create},
	}
	if c.Rules.RefuseBroken {
		f.Rules.OnError = config.OnErrorRefuse
	}
	if c.Plugin.SHA256 != "" {
		if err := config.CheckSHA256(c.Plugin.SHA256); err != nil {
			return nil, shared.Invalidf("host.Config.Plugin.SHA256", "%v", err)
		}
	}
	if c.Plugin.StartTimeout != 0 {
		if err := config.CheckStartTimeout(c.Plugin.StartTimeout); err != nil {
			return nil, shared.Invalidf("host.Config.Plugin.StartTimeout", "%v, or 0 for %s", err, config.DefaultStartTimeout)
		}
	}
	var err error
	if f.Plugin.Binary, err = checkedPath("host.Config.Plugin.Binary", c.Plugin.Binary); err != nil {
		return nil, err
	}
	if f.Index.Path, err = checkedPath("host.Config.Index.Path", c.Index.Path); err != nil {
		return nil, err
	}
	for i, p := range c.Rules.Paths {
		path, err := checkedPath(fmt.Sprintf("host.Config.Rules.Paths[%d]", i), p)
		if err != nil {
			return nil, err
		}
		f.Rules.Paths = append(f.Rules.Paths, path)
	}
	return f, nil
}

// checkedPath returns a path of a configuration in Go as an absolute one.
func checkedPath(field, path string) (string, error) {
	if err := config.CheckPath(path); err != nil {
		return "", shared.Invalidf(field, "%v", err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", shared.Invalidf(field, "is relative to the working directory, which is not known: %v", err)
	}
	if err := config.CheckPath(abs); err != nil { // of the working directory
		return "", shared.Invalidf(field, "%v", err)
	}
	return abs, nil
}

// writeConfig writes a plugin.hcl for the plugin to read.
func writeConfig(file string, f *config.File) error {
	temp := file + ".new"
	if err := os.WriteFile(temp, f.Text(), 0o600); err != nil {
		return fmt.Errorf("write the configuration of the plugin: %w", err)
	}
	if err := os.Rename(temp, file); err != nil {
		return fmt.Errorf("write the configuration of the plugin: %w", err)
	}
	return nil
}

// settings are what the host takes from plugin.hcl: its own block, and the path of the index, which must not change
// while the host runs.
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

// ConfiguredBinary returns the binary that a plugin.hcl names, for a program that builds or installs it.
func ConfiguredBinary(file string) (Binary, error) {
	s, err := readSettings(file)
	return s.binary(), err
}

// sameIndex refuses a plugin.hcl that names another index than the one that this host has open: the next plugin would
// start an index without the messages and recalls so far. It is called after that plugin has read and checked the file.
// It ignores errors in the block of the host, which must not leave the host without a plugin. It returns the content of
// the file.
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
