// Package config reads plugin.hcl, the file that a host starts the plugin from and that the plugin configures itself
// by. Both take it from here: one grammar, one limit, one set of errors.
package config

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/shared"
)

// File is what plugin.hcl says. Paths are absolute; those that the file gives relative are relative to the file.
type File struct {
	Plugin  PluginBlock
	Index   IndexBlock
	Rules   RulesBlock
	Cluster *ClusterBlock // nil: this node shares its index with no other
}

// PluginBlock is the block of the host: how to start the plugin.
type PluginBlock struct {
	Binary       string        // path of the recall-plugin
	SHA256       string        // of the binary, in hex; empty: any
	StartTimeout time.Duration // of the handshake, and again of the check of the configuration
	Watch        bool          // upgrade to a new file at the binary's path
}

// IndexBlock says where the index is.
type IndexBlock struct {
	Path   string // of its folder; missing folders are made
	Create bool   // make a new, empty index though one was here before

	KeepMessages time.Duration // live messages that were sent longer ago are dropped; 0: none are
}

// RulesBlock says which rules decide.
type RulesBlock struct {
	Paths   []string // rule files, and folders of them; none: the built-in policy
	OnError string   // what a start with broken rule files does: OnErrorLastGood or OnErrorRefuse
}

// What a start with broken rule files does.
const (
	OnErrorLastGood = "last_good" // it uses the last policy that was in force
	OnErrorRefuse   = "refuse"    // it fails
)

const (
	// DefaultStartTimeout holds where the file names none.
	DefaultStartTimeout = 10 * time.Second
	maxStartTimeout     = 10 * time.Minute

	// MinKeepMessages is the longest that rules let members recall their own messages, unless own_window_limit is "any".
	MinKeepMessages = 7 * day
	maxKeepMessages = 100 * 365 * day

	day = 24 * time.Hour
)

// A View is who reads the file. The grammar is the same for all; what has to be there differs, and whom a mistake
// stops.
type View struct {
	needs      []string // blocks
	tolerates  string   // the block whose mistakes are warnings
	opensFiles bool     // that the block "cluster" names, to check them
}

// The views of plugin.hcl.
var (
	// Whole is all of the file, for a check of it.
	Whole = View{needs: []string{pluginBlock, indexBlock}, opensFiles: true}
	// Host is the host's, before it starts or replaces a plugin. It opens no files of the block "cluster", which are the
	// plugin's: a program that only builds or installs the binary may not be able to read them.
	Host = View{needs: []string{pluginBlock}}
	// Plugin is that of a plugin that the host has started. A mistake in the host's own block is a warning then: it is no
	// reason to be without a plugin, as after a crash.
	Plugin = View{needs: []string{indexBlock}, tolerates: pluginBlock, opensFiles: true}
)

const (
	pluginBlock  = "plugin"
	indexBlock   = "index"
	rulesBlock   = "rules"
	clusterBlock = "cluster"
)

// attributes are those of each block.
var attributes = map[string][]string{
	pluginBlock: {"binary", "sha256", "start_timeout", "watch"},
	indexBlock:  {"path", "create", "keep_messages"},
	rulesBlock:  {"paths", "on_error"},
	clusterBlock: {"node", "urls", "stream", "replicas", "credentials", "system_credentials", "durability", "ca", "cert",
		"key", "lease", "forget_after", "snapshot_entries"},
}

// Load reads and checks the file. The File is nil where there are errors, and never a part of one.
func (v View) Load(name string) (*File, hclfile.Diagnostics) {
	r := &hclfile.Reporter{}
	src, err := hclfile.Read(name, hclfile.MaxFileBytes)
	if err != nil {
		r.FileError(name, "The plugin is configured by this file; see the plugin.hcl that comes with it.", err)
		return nil, r.Diagnostics()
	}
	return v.Parse(name, src)
}

// Parse is Load for a file whose text is at hand.
func (v View) Parse(name string, src []byte) (*File, hclfile.Diagnostics) {
	f := hclfile.File{Name: name, Text: src}
	values, err := hclfile.NewDecoder(f, language)
	d := &decoder{Decoder: values, view: v}
	if err != nil {
		d.FileError(name, "", err)
		return nil, d.Diagnostics()
	}
	var file *File
	if body := d.Reporter.Parse(f, language); body != nil {
		file = d.file(name, body)
	}
	if d.HasErrors() {
		file = nil
	}
	return file, d.Diagnostics()
}

// language is HCL as plugin.hcl has it.
var language = &hclfile.Language{
	Name: "plugin.hcl", Suspect: true,
	Other: "The file is blocks, attributes, texts between quotes, numbers, true and false, and lists. " +
		"A text is taken as it is.",
}

// Diagnostics are those of a file in the words of the contract.
func Diagnostics(found hclfile.Diagnostics) shared.Diagnostics {
	var ds shared.Diagnostics
	for _, d := range found {
		ds = append(ds, shared.Diagnostic{
			Severity: shared.Severity(d.Severity), Summary: d.Summary, Detail: d.Detail,
			File: d.File, Line: d.Line, Column: d.Column, Source: d.Source,
		})
	}
	return ds
}

// decoder makes a File of a syntax tree.
type decoder struct {
	*hclfile.Decoder
	view View
}

func (d *decoder) file(name string, body *hclsyntax.Body) *File {
	for _, a := range body.Attributes {
		d.Errorf(a.NameRange, knownBlocks(), "%q does not belong at the top of the file", a.Name)
	}
	f := &File{Plugin: PluginBlock{StartTimeout: DefaultStartTimeout}, Rules: RulesBlock{OnError: OnErrorLastGood}}
	first := map[string]hcl.Range{}
	for _, b := range body.Blocks {
		known, ok := attributes[b.Type]
		if !ok {
			d.Errorf(b.TypeRange, knownBlocks(), "there is no block %q", b.Type)
			continue
		}
		d.Warn = b.Type == d.view.tolerates
		if at, dup := first[b.Type]; dup {
			d.Mistakef(b.TypeRange, "Join the two.", "there is a block %q already in line %d", b.Type, at.Start.Line)
			continue
		}
		first[b.Type] = b.TypeRange
		if len(b.Labels) > 0 {
			d.Mistakef(b.LabelRanges[0], "Write "+b.Type+" { … }.", "a block %q has no label", b.Type)
		}
		d.CheckBody(b, fmt.Sprintf("a block %q", b.Type), known)
		switch b.Type {
		case pluginBlock:
			d.plugin(&f.Plugin, b)
		case indexBlock:
			f.Index.Path = d.NeedPath(b, "path", "the folder of the index")
			f.Index.Create = d.Flag(b, "create")
			d.keepMessages(&f.Index, b)
		case rulesBlock:
			f.Rules.Paths = d.paths(b, "paths")
			if word := d.Text(b, "on_error"); word != "" {
				f.Rules.OnError = word
			}
			if known := []string{OnErrorLastGood, OnErrorRefuse}; !slices.Contains(known, f.Rules.OnError) {
				d.Invalidf(b, "on_error", "", "is %q; it is one of %q", f.Rules.OnError, known)
			}
		case clusterBlock:
			f.Cluster = d.cluster(b)
		}
	}
	d.Warn = false
	for _, need := range d.view.needs {
		if _, ok := first[need]; !ok {
			d.Errorf(hcl.Range{Filename: name}, examples[need], "there is no block %q", need)
		}
	}
	return f
}

// examples are the blocks that a view needs.
var examples = map[string]string{
	pluginBlock: `Name the recall-plugin binary: plugin { binary = "bin/recall-plugin" }`,
	indexBlock:  `Say where the index is: index { path = "data/index" }`,
}

func knownBlocks() string {
	names := make([]string, 0, len(attributes))
	for name := range attributes {
		names = append(names, name)
	}
	slices.Sort(names)
	return "The file has the blocks " + strings.Join(names, ", ") + "."
}

func (d *decoder) plugin(p *PluginBlock, b *hclsyntax.Block) {
	if hclfile.Value(b, "binary") != nil || !d.Warn { // a plugin that was started already has no need of it
		p.Binary = d.NeedPath(b, "binary", "the recall-plugin binary")
	}
	if p.SHA256 = d.Text(b, "sha256"); p.SHA256 != "" {
		if err := CheckSHA256(p.SHA256); err != nil {
			d.Invalidf(b, "sha256", "", "%v", err)
		}
	}
	if text := d.Text(b, "start_timeout"); text != "" {
		timeout, err := time.ParseDuration(text)
		if err == nil {
			err = CheckStartTimeout(timeout)
		}
		if err != nil {
			d.Invalidf(b, "start_timeout", "", "is %q; a duration such as \"10s\", at most %s", text, maxStartTimeout)
		}
		p.StartTimeout = timeout
	}
	p.Watch = d.Flag(b, "watch")
}

func (d *decoder) keepMessages(x *IndexBlock, b *hclsyntax.Block) {
	text := d.Text(b, "keep_messages")
	if text == "" {
		return
	}
	keep, err := parseDays(text)
	if err == nil {
		err = CheckKeepMessages(keep)
	}
	if err != nil {
		d.Invalidf(b, "keep_messages", "", "is %.80q; a duration such as \"400d\", %s", text, keepLimit)
		return
	}
	x.KeepMessages = keep
}

// parseDays reads a duration, or a number of days such as 400d.
func parseDays(text string) (time.Duration, error) {
	number, isDays := strings.CutSuffix(text, "d")
	if !isDays {
		return time.ParseDuration(text)
	}
	days, err := strconv.ParseUint(number, 10, 32)
	if err != nil || days > uint64(maxKeepMessages/day) {
		return 0, fmt.Errorf("%q is no number of days, at most %d", number, maxKeepMessages/day)
	}
	return time.Duration(days) * day, nil
}

var keepLimit = fmt.Sprintf("%dd to %dd", MinKeepMessages/day, maxKeepMessages/day)

// CheckKeepMessages tells what is wrong with how long messages are kept.
func CheckKeepMessages(d time.Duration) error {
	if d < MinKeepMessages || d > maxKeepMessages {
		return fmt.Errorf("is %s; %s", d, keepLimit)
	}
	return nil
}

// CheckSHA256 tells what is wrong with a SHA-256 in hex.
func CheckSHA256(s string) error {
	if raw, err := hex.DecodeString(s); err != nil || len(raw) != 32 {
		return fmt.Errorf("is %.80q: a SHA-256 is 64 hexadecimal digits, as sha256sum prints them", s)
	}
	return nil
}

// CheckStartTimeout tells what is wrong with a start timeout.
func CheckStartTimeout(d time.Duration) error {
	if d <= 0 || d > maxStartTimeout {
		return fmt.Errorf("is %s; above 0, at most %s", d, maxStartTimeout)
	}
	return nil
}

// CheckPath tells what is wrong with a path in plugin.hcl.
func CheckPath(path string) error { return hclfile.CheckPath(path, language) }

func (d *decoder) paths(b *hclsyntax.Block, name string) (paths []string) {
	if hclfile.Value(b, name) == nil {
		d.Missing(b, name, "Without the block the built-in policy holds.")
	}
	example := fmt.Sprintf(`For example %s = ["rules.d"]; without the block the built-in policy holds.`, name)
	for _, e := range d.List(b, name, example, "path") {
		paths = append(paths, d.Resolve(e, b.Type+"."+name))
	}
	return paths
}
