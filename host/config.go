package host

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/chat-recall/recall/internal/config"
)

// A Binary is a plugin binary to run.
type Binary struct {
	Path string // of an executable file; in plugin.hcl relative to that file, else to the working directory

	// SHA256 of the file, in hex. Nothing else runs under this name. Empty takes the file as it is at this moment,
	// and runs that until the next upgrade.
	SHA256 string
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
	if path == "" {
		return settings{}, errors.New("host.Config.File is empty: name the plugin.hcl to load")
	}
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
