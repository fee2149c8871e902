package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/chat-recall/recall/internal/config"
	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/convert"
	"github.com/chat-recall/recall/plugin/internal/journal/jetstream"
	"github.com/chat-recall/recall/rules"
	"github.com/chat-recall/recall/shared"
)

// connectTimeout bounds how long the servers of a cluster are waited for.
const connectTimeout = 30 * time.Second

// converter is the command line of a subcommand that converts an index.
type converter struct {
	*tool
	file *string
}

func newConverter(t *tool) *converter {
	return &converter{t, t.String("config", "", "the plugin.hcl of a node, with the block \"cluster\"")}
}

// load reads the plugin.hcl. If it is nil, exit with code.
func (c *converter) load() (f *config.File, code int) {
	f, ds := config.Plugin.Load(*c.file)
	switch {
	case f == nil:
		return nil, c.refused(ds)
	case f.Cluster == nil:
		return nil, c.refused(rules.Diagnostics{{
			Severity: rules.Error, File: *c.file, Summary: `there is no block "cluster", which names the log`,
		}})
	}
	return f, exitGood
}

// connect connects to the log of a cluster.
func (c *converter) connect(ctx context.Context, o jetstream.Options) (*jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	return jetstream.Open(ctx, o)
}

// runIndexToCluster is recall-plugin index to-cluster.
func runIndexToCluster(args []string, stdout, stderr io.Writer) int {
	c := newConverter(newTool("index to-cluster", "[--json] --config plugin.hcl --nodes NODE,NODE… PATH",
		"Takes the index of a single machine in the folder PATH, which no server has open, into a new cluster: creates\n"+
			"the stream that plugin.hcl names, and stores the index as a snapshot from which every node begins. It does not\n"+
			"change what the index holds. The nodes run the open notices when they join; the first that joins takes the\n"+
			"other open steps. Cursors that were given out before are void. If it is killed, run it again.", stdout, stderr))
	list := c.String("nodes", "", "the names of the nodes that will be in the cluster, with commas between them")
	paths, code, done := c.parse(args)
	nodes := strings.Split(*list, ",")
	switch {
	case done:
		return code
	case len(paths) != 1:
		return c.wrongUsage("name the folder of the index (index.path in the plugin.hcl of the single machine)")
	case *c.file == "":
		return c.wrongUsage("name the plugin.hcl of a node with --config")
	case *list == "":
		return c.wrongUsage("name the nodes of the cluster with --nodes")
	}
	f, code := c.load()
	if f == nil {
		return code
	}
	if err := checkNodes(nodes, f.Cluster.Node); err != nil {
		return c.wrongUsage(err.Error())
	}
	ctx, stop := interruptible()
	defer stop()
	r, err := c.toCluster(ctx, paths[0], f.Cluster, nodes)
	if err != nil {
		return c.failed(err)
	}
	stored := "is in the object store, and verified"
	if !r.Stored {
		stored = "was stored before, and is verified"
	}
	c.print(r, fmt.Sprintf("the index %s %s: %s, %s and %s; the log %s goes on behind entry %d. "+
		"Start the nodes %s with index folders that are new\n", r.Index.ID, stored, count(int(r.Messages), "message"),
		count(int(r.Recalls), "recall"), count(int(r.OpenSteps), "open step"), r.Log, r.Position, strings.Join(nodes, ", ")))
	return exitGood
}

// checkNodes refuses what are not the names of all nodes of a cluster, of which one is known.
func checkNodes(nodes []string, known string) error {
	if len(nodes) > shared.MaxNodes {
		return fmt.Errorf("--nodes names %d nodes; at most %d", len(nodes), shared.MaxNodes)
	}
	for i, node := range nodes {
		if err := index.CheckNode("--nodes", node); err != nil {
			return err
		}
		if slices.Contains(nodes[:i], node) {
			return fmt.Errorf("--nodes names %s twice", node)
		}
	}
	if !slices.Contains(nodes, known) {
		return fmt.Errorf("--nodes does not name %s, the node of the plugin.hcl", known)
	}
	return nil
}

func (c *converter) toCluster(
	ctx context.Context, path string, block *config.ClusterBlock, nodes []string,
) (done convert.Imported, err error) {
	say := c.progress()
	x, err := c.openIndex(ctx, path, say)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, x.Close()) }()
	if x.FollowsLog() {
		return done, fmt.Errorf("%s: %w already", path, index.ErrOfNode)
	}
	o := jetstream.OptionsOf(block, c.logger())
	o.Import = &jetstream.Import{Claim: convert.Claim(x.Identity(), nodes), After: x.Identity().Version}
	log, err := c.connect(ctx, o)
	if err != nil {
		return done, err
	}
	defer log.Close()
	return convert.ToCluster(ctx, x, log, nodes, say)
}

// runIndexToSingle is recall-plugin index to-single.
func runIndexToSingle(args []string, stdout, stderr io.Writer) int {
	c := newConverter(newTool("index to-single", "[--json] [--offline] --config plugin.hcl PATH",
		"Makes the index of a single machine, in the folder PATH, which is not there or empty, of that of the node that\n"+
			"plugin.hcl names. No server of the cluster may run. The index of the node first gets what it lacks of the log.\n"+
			"Steps are open that are open on any node. Cursors that were given out before are void. If it is killed, run it\n"+
			"again.", stdout, stderr))
	offline := c.Bool("offline", false, "do not call the servers: take the index as it is, though the log may have more")
	paths, code, done := c.parse(args)
	switch {
	case done:
		return code
	case len(paths) != 1:
		return c.wrongUsage("name the folder for the new index")
	case *c.file == "":
		return c.wrongUsage("name the plugin.hcl of a node with --config")
	}
	f, code := c.load()
	if f == nil {
		return code
	}
	ctx, stop := interruptible()
	defer stop()
	r, err := c.toSingle(ctx, f, paths[0], *offline)
	if err != nil {
		return c.failed(err)
	}
	has := "everything that was acknowledged"
	if !r.CaughtUp {
		has = "what this node had applied"
	}
	c.print(r, fmt.Sprintf("the index in %s has %s, up to entry %d of the log %s, and is verified: %s, %s and %s\n",
		r.Path, has, r.Position, r.Log, count(int(r.Messages), "message"), count(int(r.Recalls), "recall"),
		count(int(r.OpenSteps), "open step")))
	return exitGood
}

func (c *converter) toSingle(
	ctx context.Context, f *config.File, path string, offline bool,
) (done convert.Exported, err error) {
	say := c.progress()
	x, err := c.openIndex(ctx, f.Index.Path, say)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, x.Close()) }()
	if !x.FollowsLog() {
		return done, fmt.Errorf("%s: the index is that of a single machine already", f.Index.Path)
	}
	if offline {
		return convert.ToSingle(ctx, x, nil, path, say)
	}
	o := jetstream.OptionsOf(f.Cluster, c.logger())
	o.Existing = true
	log, err := c.connect(ctx, o)
	if errors.Is(err, shared.ErrUnavailable) {
		return done, fmt.Errorf("%w; with --offline the index is taken as it is, at entry %d", err, x.Log().Position)
	}
	if err != nil {
		return done, err
	}
	defer log.Close()
	return convert.ToSingle(ctx, x, &convert.Cluster{Log: log, Node: f.Cluster.Node, Lease: f.Cluster.Lease}, path, say)
}
