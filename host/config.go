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
	Path string // of an executable file; in plugin.hcl relative to that file, else to the working directory

	// SHA256 of the file, in hex. Nothing else runs under this name. Empty takes the file as it is at this moment,
	// and runs that until the next upgrade.
	SHA256 string
}

// settings are the plugin block of plugin.hcl. The other blocks are the plugin's own; of them the host knows where the
// index is, which must not change under it.
type settings struct {
	file         string // absolute
	binary       Binary
	startTimeout time.Duration
	watch        bool
	index        string // folder, absolute; anything where the file does not say, which the plugin refuses
}

// pluginFile is plugin.hcl as far as the host reads it.
type pluginFile struct {
	Plugin struct {
		Binary       *hcl.Attribute `hcl:"binary"`
		SHA256       *hcl.Attribute `hcl:"sha256"`
		StartTimeout *hcl.Attribute `hcl:"start_timeout"`
		Watch        *bool          `hcl:"watch"`
	} `hcl:"plugin,block"`
	Index *indexBlock `hcl:"index,block"`
	Rest  hcl.Body    `hcl:",remain"`
}

type indexBlock struct {
	Path string   `hcl:"path,optional"`
	Rest hcl.Body `hcl:",remain"`
}

// text reads an attribute of the plugin block and checks it. It is empty where the attribute is not set, or null.
func text(a *hcl.Attribute, check func(string) error) (string, error) {
	if a == nil {
		return "", nil
	}
	var given *string
	if diags := gohcl.DecodeExpression(a.Expr, nil, &given); diags.HasErrors() {
		return "", diagnosticsError(diags)
	}
	if given == nil {
		return "", nil
	}
	if err := check(*given); err != nil {
		at := a.Expr.Range()
		return "", diagnosticsError(hcl.Diagnostics{{Severity: hcl.DiagError, Summary: fmt.Sprintf("plugin.%s %s", a.Name, err), Subject: &at}})
	}
	return *given, nil
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
	s := settings{file: abs, startTimeout: defaultStartTimeout}
	binary, err := text(pf.Plugin.Binary, checkBinary)
	if err != nil {
		return settings{}, err
	}
	if binary == "" {
		return settings{}, fmt.Errorf("%s: the block \"plugin\" needs \"binary\": name the recall-plugin binary", path)
	}
	s.binary.Path = under(abs, binary)
	if s.binary.SHA256, err = text(pf.Plugin.SHA256, checkSHA256); err != nil {
		return settings{}, err
	}
	_, err = text(pf.Plugin.StartTimeout, func(t string) error {
		d, err := time.ParseDuration(t)
		if err != nil || d <= 0 || d > maxStartTimeout {
			return fmt.Errorf("is %q; a duration such as \"10s\", at most %s", t, maxStartTimeout)
		}
		s.startTimeout = d
		return nil
	})
	if err != nil {
		return settings{}, err
	}
	if pf.Index != nil {
		s.index = under(abs, pf.Index.Path)
	}
	s.watch = pf.Plugin.Watch != nil && *pf.Plugin.Watch
	return s, nil
}

// ConfiguredBinary is the binary that a plugin.hcl names, for a program that builds or installs it.
func ConfiguredBinary(file string) (Binary, error) {
	s, err := readSettings(file)
	return s.binary, err
}

// sameIndex refuses a plugin.hcl that names another index than the one that this host has open: the next plugin would
// begin one that knows nothing of what was sent and recalled. It is asked once that plugin has read and checked the file.
// A mistake in the block of the host is no reason to be without a plugin.
func (s settings) sameIndex() error {
	src, err := os.ReadFile(s.file)
	if err != nil {
		return fmt.Errorf("plugin configuration: %w", err)
	}
	file, diags := hclparse.NewParser().ParseHCL(src, s.file)
	var now struct {
		Index indexBlock `hcl:"index,block"`
		Rest  hcl.Body   `hcl:",remain"`
	}
	if !diags.HasErrors() {
		diags = gohcl.DecodeBody(file.Body, nil, &now)
	}
	if diags.HasErrors() {
		return diagnosticsError(diags)
	}
	if index := under(s.file, now.Index.Path); index != s.index {
		return fmt.Errorf("%s: index.path is %q, and was %q when this server opened it: change it back, or stop the server to move the index",
			s.file, index, s.index)
	}
	return nil
}

// under is a path of plugin.hcl.
func under(file, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(filepath.Dir(file), path)
}

func checkBinary(path string) error {
	if path == "" {
		return errors.New("is empty: name the recall-plugin binary")
	}
	return nil
}

func checkSHA256(s string) error {
	if raw, err := hex.DecodeString(s); err != nil || len(raw) != 32 {
		return fmt.Errorf("is %.80q: a SHA-256 is 64 hexadecimal digits, as sha256sum prints them", s)
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
