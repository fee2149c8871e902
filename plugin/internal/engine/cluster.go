package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/plugin/internal/config"
	"github.com/chat-recall/recall/plugin/internal/journal"
	"github.com/chat-recall/recall/shared"
)

// ClusterLink is the connection of a node to the others.
type ClusterLink interface {
	journal.Stream
	journal.Beats
	journal.Snapshots

	ID() string        // of the log
	IsConnected() bool // now
	Close()
}

// cluster is what there is of the cluster while the engine is active.
type cluster struct {
	link   ClusterLink
	index  *index.Index
	log    *journal.Replicated
	keeper *journal.Keeper
	shots  *journal.Snapshotter
	stop   context.CancelFunc // ends keeping
	kept   sync.WaitGroup
}

// leaveTimeout bounds how long a node that is closed waits until the others know. If they do not, they find it gone.
const leaveTimeout = 3 * time.Second

// linkUp connects to the log that a configuration names, if it names one. Servers that do not answer are an error, and
// what is wrong with them or the configuration is a diagnostic.
func (e *Engine) linkUp(ctx context.Context, cfg *config.Config, file string) (shared.Diagnostics, error) {
	if cfg.Cluster == nil {
		return nil, nil
	}
	if e.openCluster == nil {
		return nil, fmt.Errorf("%w: this plugin cannot be a node of a cluster", shared.ErrUnavailable)
	}
	refused := func(err error, advice string) (shared.Diagnostics, error) {
		return shared.Diagnostics{{
			Severity: shared.SeverityError, Summary: "cluster: " + err.Error(), Detail: advice, File: file,
		}}, nil
	}
	var err error
	switch e.link, err = e.connect(ctx, cfg); {
	case err == nil:
		return nil, nil
	case errors.Is(err, journal.ErrGone):
		return refused(err, "the index "+cfg.IndexPath+" is not new, and no new log is made for it: name another folder if "+
			"the log was deleted; recall-plugin index to-cluster takes the index of a single machine into a new cluster")
	case errors.Is(err, index.ErrNewer):
		return refused(err, "the other nodes have a newer version, and write what this one cannot read")
	case errors.Is(err, index.ErrCorrupt):
		return refused(err, "")
	case errors.Is(err, shared.ErrUnavailable):
		return nil, err
	default:
		return refused(err, "")
	}
}

// connect connects to a log that this version reads.
func (e *Engine) connect(ctx context.Context, cfg *config.Config) (ClusterLink, error) {
	link, err := e.openCluster(ctx, cfg.Cluster, hasFiles(cfg.IndexPath), e.logger.Named("cluster"))
	if err != nil {
		return nil, err
	}
	if _, err := journal.LastFormat(ctx, link, e.entryFormat); err != nil {
		link.Close()
		return nil, err
	}
	return link, nil
}

// hasFiles reports whether a folder is there, and is not empty.
func hasFiles(folder string) bool {
	entries, err := os.ReadDir(folder)
	return err == nil && len(entries) > 0
}

// unlink ends what linkUp began. It is called by whoever has the turn.
func (e *Engine) unlink() {
	if e.link != nil {
		e.link.Close()
		e.link = nil
	}
}

// known is what the host knows of the index. That of a node is filled from the log whenever it is missing.
func (e *Engine) known() *shared.IndexIdentity {
	if e.link != nil {
		return nil
	}
	return e.expected
}

// newLog makes the log of an open index, which it takes over. For a node of a cluster it follows the log up to now and
// joins.
func (e *Engine) newLog(ctx context.Context, x *index.Index, steps []wire.StepPlan) (journal.Log, *cluster, error) {
	if e.link == nil {
		if x.FollowsLog() {
			return nil, nil, errors.Join(fmt.Errorf("the index %s is that of a node of a cluster: add the block \"cluster\" "+
				"again, name another folder, or make one of a single machine of it (recall-plugin index to-single)",
				e.config.IndexPath), x.Close())
		}
		log := journal.NewLocal(x)
		if err := e.countSpends(log); err != nil {
			return nil, nil, errors.Join(err, log.Close())
		}
		return log, nil, nil
	}
	o := e.config.Cluster
	if err := x.Follow(ctx, e.link.ID(), o.Node); err != nil { // one that was replaced too
		return nil, nil, errors.Join(err, x.Close())
	}
	c := &cluster{link: e.link, index: x, log: journal.NewReplicated(x, journal.ReplicatedOptions{
		Node: o.Node, Stream: e.link, Format: e.entryFormat, Logger: e.logger.Named("cluster"),
	})}
	e.shows(func() (uint64, string) {
		entries, _ := c.log.Counts()
		return entries, fmt.Sprintf("the log is applied up to entry %d", c.log.Position())
	})
	self := index.Member{
		Node: o.Node, Instance: x.Identity().ID, Format: e.entryFormat, Version: e.version,
	}
	for _, step := range steps {
		if step.EachNode {
			self.EachNode = append(self.EachNode, step.Name)
		} else {
			self.Steps = append(self.Steps, step.Name)
		}
	}
	slices.Sort(self.EachNode)
	slices.Sort(self.Steps)
	var err error
	c.keeper, err = journal.NewKeeper(journal.KeeperOptions{
		Log: c.log, Beats: e.link, Self: self, Policy: e.policyDigest, Lease: o.Lease, ForgetAfter: o.ForgetAfter,
		Logger: e.logger.Named("cluster"), Clock: e.clock,
	})
	if err == nil {
		if err = c.keeper.Join(ctx); err == nil {
			err = e.countSpends(c.log)
		}
		if err != nil {
			c.keeper.Close()
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, c.log.Close())
	}
	keep, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.shots = journal.NewSnapshotter(journal.SnapshotterOptions{
		Log: c.log, Snapshots: e.link, Every: uint64(o.SnapshotEntries), Logger: e.logger.Named("cluster"), Clock: e.clock,
	})
	c.kept.Go(func() { c.keeper.Run(keep) })
	c.kept.Go(func() { c.shots.Run(keep) })
	return c.log, c, nil
}

func (e *Engine) policyDigest() string {
	if w := e.followed(); w != nil {
		return w.Policy().Digest()
	}
	return ""
}

// close ends the log, and closes the index. A node leaves the cluster for good: a process that is to be followed by
// another one is killed, unless its index was compacted.
func (a *active) close(logger hclog.Logger) error {
	if c := a.cluster; c != nil {
		c.stop()
		c.kept.Wait()
		c.keeper.Close()
		if a.index.IsCompacted() {
			return a.log.Close()
		}
		ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
		defer cancel()
		if err := c.keeper.Leave(ctx); err != nil {
			logger.Warn("this node has not left the cluster; the others find that it is gone", "error", err)
		}
	}
	return a.log.Close()
}

// steps are those that any host of the cluster carries out, sorted.
func (c *cluster) steps() ([]string, error) {
	members, err := c.index.Members()
	if err != nil {
		return nil, fmt.Errorf("read the members of the cluster: %w", err)
	}
	var all []string
	for _, m := range members {
		all = append(append(all, m.Steps...), m.EachNode...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// state is what this node knows of the cluster.
func (c *cluster) state() (*shared.ClusterState, error) {
	members, err := c.index.Members()
	if err != nil {
		return nil, fmt.Errorf("read the members of the cluster: %w", err)
	}
	node, _ := c.log.Node()
	s := &shared.ClusterState{
		Node: node, Log: c.link.ID(), Connected: c.link.IsConnected(), Position: c.log.Position(),
	}
	heard := c.keeper.Heard()
	for _, name := range slices.Sorted(maps.Keys(members)) {
		m, beat := members[name], heard[name]
		s.Members = append(s.Members, shared.ClusterMember{
			Node: name, Version: m.Version, Format: m.Format, PolicyDigest: beat.Policy, Position: beat.Position, Gone: m.Gone,
			Since: m.Since,
		})
	}
	s.Lag, s.BehindSince = c.keeper.Lag()
	return s, nil
}
