package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chat-recall/recall/internal/natscluster"
)

const (
	clusterServers = 3
	clusterNodes   = 3
	clusterStream  = "RECALL"
	serversDir     = "servers" // folder of the servers, in that of the cluster
	clusterLease   = 6 * time.Second
)

// clusterRules permit everything that the load asks for, without limits.
const clusterRules = `
permit "own" {
  sender = true
  window = "7d"

  on_recall {
    steps = ["notify", "history", "attachments"]
  }
}
`

// clusterBinaries are what a run starts.
type clusterBinaries struct {
	plugin string
	next   string // another version of the plugin
	nats   string
}

// buildClusterBinaries builds into a folder.
func buildClusterBinaries(ctx context.Context, dir string) (b clusterBinaries, err error) {
	b.plugin, b.next = filepath.Join(dir, "recall-plugin"), filepath.Join(dir, "recall-plugin-next")
	for path, version := range map[string]string{b.plugin: "v1.0.0", b.next: "v1.0.1"} {
		out, err := exec.CommandContext(ctx, "go", "build", "-ldflags", "-X main.Version="+version, "-o", path,
			"github.com/chat-recall/recall/plugin").CombinedOutput()
		if err != nil {
			return b, fmt.Errorf("build the plugin: %w\n%s", err, out)
		}
	}
	b.nats, err = natscluster.BuildCached(ctx)
	return b, err
}

// A cluster is one that runs: servers of the log, and chat nodes under load.
type cluster struct {
	clusterOptions
	dir      string
	binaries clusterBinaries
	env      clusterEnv
	servers  *natscluster.Servers
	load     *clusterLoad

	mu    sync.Mutex
	nodes []*clusterNode // more may come
}

// startServers starts the servers of a cluster in a folder. What it has started must be closed, even if it fails.
func startServers(ctx context.Context, dir string, b clusterBinaries, o clusterOptions) (*cluster, error) {
	c := &cluster{clusterOptions: o, dir: dir, binaries: b}
	servers := natscluster.Options{Binary: b.nats, Folder: filepath.Join(dir, serversDir), Count: clusterServers}
	err := os.Mkdir(servers.Folder, 0o700)
	if err == nil {
		c.env, err = makeEnv(ctx, dir, b, o)
	}
	if err == nil {
		c.env.options(&servers)
		c.servers, err = natscluster.Start(ctx, servers)
	}
	return c, err
}

// startCluster is startServers with nodes.
func startCluster(ctx context.Context, dir string, b clusterBinaries, o clusterOptions) (*cluster, error) {
	c, err := startServers(ctx, dir, b, o)
	if err != nil {
		return c, err
	}
	for range clusterNodes {
		if _, err := c.addNode(); err != nil {
			return c, err
		}
	}
	var starting errgroup.Group
	for _, n := range c.all() {
		starting.Go(func() error { return n.start(ctx) })
	}
	return c, starting.Wait()
}

// close kills everything.
func (c *cluster) close() {
	for _, n := range c.all() {
		_ = n.kill()
	}
	if c.servers != nil {
		c.servers.Close()
	}
	c.env.close()
}

// all are the nodes.
func (c *cluster) all() []*clusterNode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[:len(c.nodes):len(c.nodes)]
}

// addNode makes the folder of one more node, which is not started.
func (c *cluster) addNode() (*clusterNode, error) {
	number := len(c.all())
	name := fmt.Sprint("n", number)
	n := newClusterNode(filepath.Join(c.dir, name), name)
	if err := os.MkdirAll(n.path(dataDir), 0o700); err != nil {
		return nil, err
	}
	plugin, user := c.binaries.plugin, natscluster.User
	if c.env.faulty != nil {
		plugin, n.skew = c.env.faulty[number], c.skews[number]
	}
	attributes := fmt.Sprintf(`node = %q
  urls = ["%s"]
  stream = %q
  credentials = "recall.creds"
  system_credentials = "system.creds"
  lease = %q
`, name, strings.Join(c.servers.URLs(), `", "`), clusterStream, clusterLease)
	if c.snapshotEntries > 0 {
		attributes += fmt.Sprintf("  snapshot_entries = %d\n", c.snapshotEntries)
	}
	if t := c.env.certificates; t != nil {
		user = nodeUser(name)
		attributes += fmt.Sprintf("  ca = %q\n  cert = %q\n  key = %q\n", t.CA, t.Cert, t.Key)
	}
	if c.env.net != nil {
		place, err := c.env.net.add()
		if err != nil {
			return nil, err
		}
		n.place = place
	}
	err := writeConfig(n.path(configFile), plugin, indexDir)
	for file, text := range map[string]string{
		"recall.creds": user, "system.creds": natscluster.SystemUser, "rules.hcl": clusterRules,
	} {
		err = errors.Join(err, os.WriteFile(n.path(file), []byte(text), 0o600))
	}
	err = errors.Join(err, appendTo(n.path(configFile),
		"\nrules {\n  paths = [\"rules.hcl\"]\n}\n\ncluster {\n  "+attributes+"}\n"))
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = append(c.nodes, n)
	return n, nil
}

func appendTo(file, text string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// wait lets the cluster work for a time.
func (c *cluster) wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
