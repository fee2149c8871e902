package host

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
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

	// KeepMessages is how long live messages are kept, by their SentAt: 168 h (7 d) to 100 years; 0: for ever. The plugin
	// drops older ones in the background. A recall of one is then answered StatusNotFound, unless Target.Message has its
	// facts. Recalled messages are kept.
	KeepMessages time.Duration
}

// RulesConfig is the Go form of the block "rules" of plugin.hcl.
type RulesConfig struct {
	Paths []string // rule files, and folders with rule files; empty: the built-in policy

	// RefuseBroken makes a start with broken rule files fail. Otherwise the last policy that was in force decides until
	// the files are fixed.
	RefuseBroken bool
}

// ClusterConfig is the Go form of the block "cluster" of plugin.hcl: the log on NATS JetStream that the nodes of a
// cluster share, and which node this one is. The zero value means a single machine. Paths of files are relative to the
// working directory. The plugin opens them when it starts; one that it cannot read fails the start.
type ClusterConfig struct {
	Node     string   // unique in the cluster and the same after a restart: 1 to 64 of A-Z, a-z, 0-9, '.', '_', '-'
	URLs     []string // 1 to 16 NATS servers: nats:// or tls://, host, and port if it is not 4222
	Stream   string   // the log, created if missing: 1 to 64 of A-Z, a-z, 0-9, '_', '-'; empty: "RECALL"
	Replicas int      // of the stream: 1, 3 or 5; 0: 3

	// Credentials is the path of a credentials file of NATS, or of a file with one line user:password; at most 64 KiB.
	// Empty: none.
	Credentials string

	// SystemCredentials is the path of such a file for the system account. With it the plugin asks every server, before it
	// uses the stream, whether it syncs what it acknowledges. It must be set unless Unchecked is.
	SystemCredentials string

	// Unchecked leaves that question out. If the servers do not sync (jetstream { sync_interval: always }), a power
	// failure loses recalls that were acknowledged. The plugin warns of it at each start.
	Unchecked bool

	CA        string // path of a PEM file, at most 1 MiB, with the CAs of the servers; empty: those of the machine
	Cert, Key string // paths of PEM files, at most 1 MiB, with the certificate of this client and its key; both or none

	Lease           time.Duration // silence after which a node is gone and others do its steps: 3 s to 10 min; 0: 15 s
	ForgetAfter     time.Duration // how long a gone node's missed events are kept for it: 1 min to 720 h; 0: 24 h
	SnapshotEntries int           // entries of the log between two snapshots: 1,000 to 100,000,000; 0: 200,000
}

// isSet reports whether a cluster is configured.
func (c *ClusterConfig) isSet() bool { return !reflect.ValueOf(*c).IsZero() }

// clusterFields are the fields of [ClusterConfig] by attribute of plugin.hcl.
var clusterFields = map[string]string{
	"node": "Node", "urls": "URLs", "stream": "Stream", "replicas": "Replicas", "credentials": "Credentials",
	"system_credentials": "SystemCredentials", "durability": "Unchecked", "ca": "CA", "cert": "Cert", "key": "Key",
	"lease": "Lease", "forget_after": "ForgetAfter", "snapshot_entries": "SnapshotEntries",
}

// block returns the block "cluster" of plugin.hcl, nil if none is configured.
func (c *ClusterConfig) block() (*config.ClusterBlock, error) {
	if !c.isSet() {
		return nil, nil
	}
	b := &config.ClusterBlock{
		Node: c.Node, URLs: slices.Clone(c.URLs), Unchecked: c.Unchecked,
		Stream:          cmp.Or(c.Stream, config.DefaultStream),
		Replicas:        cmp.Or(c.Replicas, config.DefaultReplicas),
		Lease:           cmp.Or(c.Lease, config.DefaultLease),
		ForgetAfter:     cmp.Or(c.ForgetAfter, config.DefaultForgetAfter),
		SnapshotEntries: cmp.Or(c.SnapshotEntries, config.DefaultSnapshotEntries),
	}
	const field = "host.Config.Cluster."
	for _, file := range []struct {
		attribute, path string
		into            *string
	}{
		{"credentials", c.Credentials, &b.Credentials}, {"system_credentials", c.SystemCredentials, &b.SystemCredentials},
		{"ca", c.CA, &b.CA}, {"cert", c.Cert, &b.Cert}, {"key", c.Key, &b.Key},
	} {
		if file.path == "" {
			continue
		}
		path, err := checkedPath(field+clusterFields[file.attribute], file.path)
		if err != nil {
			return nil, err
		}
		*file.into = path
	}
	if found := b.Check(); len(found) > 0 {
		p := found[0]
		name := field + clusterFields[p.Attribute]
		if p.Element >= 0 {
			name = fmt.Sprintf("%s[%d]", name, p.Element)
		}
		return nil, shared.Invalidf(name, "%s", p.Text)
	}
	return b, nil
}

// inGo reports whether the configuration is set in Go. It refuses a mixture of Go and File.
func (c *Config) inGo() (bool, error) {
	set := c.Plugin != (PluginConfig{}) || c.Index != (IndexConfig{}) || len(c.Rules.Paths) > 0 ||
		c.Rules.RefuseBroken || c.Cluster.isSet()
	switch {
	case set && c.File != "":
		return false, shared.Invalidf("host.Config.File",
			"is set, and so is Plugin, Index, Rules or Cluster: set one or the other")
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
		Index:  config.IndexBlock{Create: c.Index.Create, KeepMessages: c.Index.KeepMessages},
	}
	if c.Rules.RefuseBroken {
		f.Rules.OnError = config.OnErrorRefuse
	}
	if c.Plugin.SHA256 != "" {
		if err := config.CheckSHA256(c.Plugin.SHA256); err != nil {
			return nil, shared.Invalidf("host.Config.Plugin.SHA256", "%v", err)
		}
	}
	if c.Index.KeepMessages != 0 {
		if err := config.CheckKeepMessages(c.Index.KeepMessages); err != nil {
			return nil, shared.Invalidf("host.Config.Index.KeepMessages", "%v, or 0", err)
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
	if f.Cluster, err = c.Cluster.block(); err != nil {
		return nil, err
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
	if is, was := logOf(now.Cluster), logOf(s.Cluster); is != was {
		return nil, fmt.Errorf("%s: by the block cluster this is %s, and it was %s when this server opened the index: "+
			"change it back, or stop the server to change it", s.file, is, was)
	}
	return now, nil
}

// logOf says whose index a configuration is for.
func logOf(c *config.ClusterBlock) string {
	if c == nil {
		return "a single machine"
	}
	return fmt.Sprintf("node %q of the stream %q", c.Node, c.Stream)
}
