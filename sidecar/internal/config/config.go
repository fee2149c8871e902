// Package config reads sidecar.hcl, the configuration of recall-sidecar.
package config

import (
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/internal/hclfile"
)

// File is the content of sidecar.hcl. Paths are absolute. A relative path in the file is relative to the file.
type File struct {
	PluginFile  string     // path of the plugin.hcl
	RunDir      string     // the run directory of the host; "": its default
	MaxInFlight int        // requests at a time, those that wait for deliveries included; 1 to 65536
	Listeners   []Listener // where requests arrive, at least one
	Steps       []Step     // what the sidecar has carried out, in the order of the file
}

const (
	// DefaultMaxInFlight is the default of max_in_flight.
	DefaultMaxInFlight = 4096
	maxMaxInFlight     = 65536
)

// topAttributes are the attributes outside of blocks.
var topAttributes = []string{"plugin_file", "run_dir", "max_in_flight"}

const (
	listenBlock = "listen"
	stepBlock   = "step"
)

// language is HCL as sidecar.hcl uses it.
var language = &hclfile.Language{
	Name: "sidecar.hcl", Suspect: true,
	Other: "The file is attributes, blocks, texts between quotes, numbers, true and false, and lists. " +
		"A text is taken as it is.",
}

// Load reads and checks a file. It opens none of the files that the file names. If there are errors, the File is nil.
func Load(name string) (*File, hclfile.Diagnostics) {
	text, err := hclfile.Read(name, hclfile.MaxFileBytes)
	if err != nil {
		r := &hclfile.Reporter{}
		r.FileError(name, "This file configures recall-sidecar: name it with --config.", err)
		return nil, r.Diagnostics()
	}
	return Parse(name, text)
}

// Parse is Load for the text of a file.
func Parse(name string, text []byte) (*File, hclfile.Diagnostics) {
	f := hclfile.File{Name: name, Text: text}
	values, err := hclfile.NewDecoder(f, language)
	d := &decoder{Decoder: values}
	if err != nil {
		d.FileError(name, "", err)
		return nil, d.Diagnostics()
	}
	var file *File
	if body := d.Parse(f, language); body != nil {
		file = d.file(name, body)
	}
	if d.HasErrors() {
		file = nil
	}
	return file, d.Diagnostics()
}

// decoder makes a File of a syntax tree.
type decoder struct{ *hclfile.Decoder }

func (d *decoder) file(name string, body *hclsyntax.Body) *File {
	const known = "The file has plugin_file, run_dir, max_in_flight, and the blocks listen and step."
	top := hclfile.Top(name, body)
	for _, a := range body.Attributes {
		if !slices.Contains(topAttributes, a.Name) {
			d.Errorf(a.NameRange, known, "%q does not belong at the top of the file", a.Name)
		}
	}
	f := &File{
		PluginFile:  d.NeedPath(top, "plugin_file", `the configuration of the plugin: plugin_file = "plugin.hcl"`),
		RunDir:      d.Path(top, "run_dir"),
		MaxInFlight: d.number(top, "max_in_flight", DefaultMaxInFlight, maxMaxInFlight),
	}
	var listeners, steps []*hclsyntax.Block
	for _, b := range body.Blocks {
		switch b.Type {
		case listenBlock:
			listeners = append(listeners, b)
		case stepBlock:
			steps = append(steps, b)
		default:
			d.Errorf(b.TypeRange, known, "there is no block %q", b.Type)
		}
	}
	f.Listeners = d.listeners(name, listeners)
	f.Steps = d.steps(steps)
	return f
}

// label returns the only label of a block; "" if there is none, or more than one. example shows the block.
func (d *decoder) label(b *hclsyntax.Block, example string) string {
	switch len(b.Labels) {
	case 0:
		d.Errorf(b.TypeRange, "Write "+example+".", "the block %q has no label", b.Type)
		return ""
	case 1:
		if b.Labels[0] == "" {
			d.Errorf(b.LabelRanges[0], "Write "+example+".", "the label of the block %q is empty", b.Type)
		}
		return b.Labels[0]
	}
	d.Errorf(b.LabelRanges[1], "Write "+example+".", "the block %q has more than one label", b.Type)
	return ""
}

// unique reports the second use of a value. first maps each value to its first place. what is the kind of value, with
// its article.
func (d *decoder) unique(first map[string]hcl.Range, value string, at hcl.Range, what string) bool {
	if was, twice := first[value]; twice {
		d.Errorf(at, "Remove one of them.", "there is %s %.80q already in line %d", what, value, was.Start.Line)
		return false
	}
	first[value] = at
	return true
}

// number returns a number from 1 to limit; standard if the attribute is not set.
func (d *decoder) number(b *hclsyntax.Block, name string, standard, limit int) int {
	valid, n := fmt.Sprintf("1 to %d", limit), standard
	d.Number(b, name, valid, &n)
	if n < 1 || n > limit {
		d.Invalidf(b, name, "", "is %d; %s", n, valid)
	}
	return n
}

// duration returns a duration from least to most; standard if the attribute is not set.
func (d *decoder) duration(b *hclsyntax.Block, name string, standard, least, most time.Duration) time.Duration {
	valid, is := fmt.Sprintf("%s to %s", least, most), standard
	d.Duration(b, name, valid, &is)
	if is < least || is > most {
		d.Invalidf(b, name, "", "is %s; %s", is, valid)
	}
	return is
}
