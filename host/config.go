package host

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclparse"

	"github.com/chat-recall/recall/shared"
)

const (
	defaultStartTimeout = 10 * time.Second
	maxStartTimeout     = 10 * time.Minute

	// maxConfigBytes bounds how deep brackets can be nested: the parser goes down with them, and overflows at 70,000.
	maxConfigBytes = 32 << 10
)

// A Binary is a plugin binary to run.
type Binary struct {
	Path string // of an executable file

	// SHA256 of the file, in hex. Nothing else runs under this name. Empty takes the file as it is at this moment,
	// and runs that until the next upgrade.
	SHA256 string
}

// settings are the plugin block of plugin.hcl; the other blocks are the plugin's own.
type settings struct {
	file         string // absolute
	binary       Binary
	startTimeout time.Duration
	watch        bool
}

// pluginFile is plugin.hcl as far as the host reads it.
type pluginFile struct {
	Plugin struct {
		Binary       string  `hcl:"binary"`
		SHA256       *string `hcl:"sha256"`
		StartTimeout *string `hcl:"start_timeout"`
		Watch        *bool   `hcl:"watch"`
	} `hcl:"plugin,block"`
	Rest hcl.Body `hcl:",remain"`
}

// readSettings reads the plugin block of a plugin.hcl. Paths in it are relative to the file.
func readSettings(path string) (settings, error) {
	if path == "" {
		return settings{}, errors.New("host.Config.File is empty: name the plugin.hcl to load")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return settings{}, err
	}
	info, err := os.Stat(abs)
	if err != nil {
		return settings{}, fmt.Errorf("plugin configuration: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxConfigBytes {
		return settings{}, fmt.Errorf("plugin configuration %s is not a regular file of at most %d bytes", path, maxConfigBytes)
	}
	src, err := os.ReadFile(abs)
	if err != nil {
		return settings{}, fmt.Errorf("plugin configuration: %w", err)
	}
	file, diags := hclparse.NewParser().ParseHCL(src, path)
	if diags.HasErrors() {
		return settings{}, diagnosticsError(diags)
	}
	var pf pluginFile
	if diags := gohcl.DecodeBody(file.Body, nil, &pf); diags.HasErrors() {
		return settings{}, diagnosticsError(diags)
	}
	s := settings{file: abs, binary: Binary{Path: pf.Plugin.Binary}, startTimeout: defaultStartTimeout}
	if s.binary.Path == "" {
		return settings{}, fmt.Errorf("%s: plugin.binary is empty: name the recall-plugin binary", path)
	}
	if !filepath.IsAbs(s.binary.Path) {
		s.binary.Path = filepath.Join(filepath.Dir(abs), s.binary.Path)
	}
	if pf.Plugin.SHA256 != nil {
		s.binary.SHA256 = *pf.Plugin.SHA256
		if err := checkSHA256(s.binary.SHA256); err != nil {
			return settings{}, fmt.Errorf("%s: plugin.sha256: %w", path, err)
		}
	}
	if t := pf.Plugin.StartTimeout; t != nil {
		d, err := time.ParseDuration(*t)
		if err != nil || d <= 0 || d > maxStartTimeout {
			return settings{}, fmt.Errorf("%s: plugin.start_timeout is %q; a duration such as \"10s\", at most %s", path, *t, maxStartTimeout)
		}
		s.startTimeout = d
	}
	s.watch = pf.Plugin.Watch != nil && *pf.Plugin.Watch
	return s, nil
}

// ConfiguredBinary is the binary that a plugin.hcl names, for a program that builds or installs it.
func ConfiguredBinary(file string) (Binary, error) {
	s, err := readSettings(file)
	return s.binary, err
}

func checkSHA256(s string) error {
	if raw, err := hex.DecodeString(s); err != nil || len(raw) != 32 {
		return fmt.Errorf("%.80q is no SHA-256: 64 hexadecimal digits, as sha256sum prints them", s)
	}
	return nil
}

// diagnosticsError turns what HCL says of a file into the contract's own form.
func diagnosticsError(diags hcl.Diagnostics) error {
	var out shared.Diagnostics
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		one := shared.Diagnostic{Severity: shared.SeverityError, Summary: d.Summary, Detail: d.Detail}
		if d.Subject != nil {
			one.File, one.Line, one.Column = d.Subject.Filename, d.Subject.Start.Line, d.Subject.Start.Column
		}
		out = append(out, one)
	}
	return out.Err()
}
