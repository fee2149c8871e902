package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/chat-recall/recall/internal/natscluster"
)

// clusterOptions are what a fault wants to be otherwise from the beginning.
type clusterOptions struct {
	snapshotEntries int

	tls     bool     // of servers and nodes; each node is a user of its own
	network bool     // each server and node has a place of its own in a network
	disks   []string // folders of the cluster that are disks of their own
	plugins []string // faults of the plugins of the nodes, see package faulty; nil: none has one

	skews [clusterNodes]time.Duration // of the clocks by which the nodes write the times of their messages
}

// clusterEnv is what the processes of a cluster run in.
type clusterEnv struct {
	certificates *natscluster.TLS // nil: none
	disks        []*loopDisk
	net          *virtualNet // nil: everything is on loopback
	servers      []*netPlace // of that
	faulty       []string    // the plugins of the nodes; nil: the one that is built
}

// makeEnv makes what servers and nodes run in. What it has made must be closed, even if it fails.
func makeEnv(ctx context.Context, dir string, b clusterBinaries, o clusterOptions) (e clusterEnv, err error) {
	for _, folder := range o.disks {
		disk, err := newLoopDisk(filepath.Join(dir, folder), clusterDiskBytes)
		if err != nil {
			return e, fmt.Errorf("make a file system of its own, which needs root and a loop device: %w", err)
		}
		e.disks = append(e.disks, disk)
	}
	if o.tls {
		if e.certificates, err = makeCertificates(dir); err != nil {
			return e, err
		}
	}
	if o.network {
		e.net = newVirtualNet()
		for range clusterServers {
			place, err := e.net.add()
			if err != nil {
				return e, err
			}
			e.servers = append(e.servers, place)
		}
	}
	for _, fault := range o.plugins {
		plugin, err := b.faulty(ctx, fault)
		if err != nil {
			return e, err
		}
		e.faulty = append(e.faulty, plugin)
	}
	return e, nil
}

// close ends what is left when all processes are killed.
func (e *clusterEnv) close() {
	for _, disk := range e.disks {
		disk.unmount()
	}
	if e.net != nil {
		e.net.close()
	}
}

// options are those of the servers.
func (e *clusterEnv) options(o *natscluster.Options) {
	if e.certificates != nil {
		o.TLS, o.Users = e.certificates, nodeUsers()
	}
	if e.net != nil {
		o.In = func(i int, do func() error) error { return e.servers[i].run(do) }
		for _, place := range e.servers {
			o.Hosts = append(o.Hosts, place.host)
		}
	}
}

// faulty builds a plugin with a fault, see package faulty; without one, it is the plugin.
func (b *clusterBinaries) faulty(ctx context.Context, fault string) (path string, err error) {
	if fault == "" {
		return b.plugin, nil
	}
	path = b.plugin + "-" + fault
	if _, err := os.Stat(path); err == nil {
		return path, nil // another node has it
	}
	out, err := exec.CommandContext(ctx, "go", "build", "-o", path,
		"github.com/chat-recall/recall/plugin/internal/faulty").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build a faulty plugin: %w\n%s", err, out)
	}
	return path, appendTo(path, "\nrecall-fault="+fault)
}

// Folders of a cluster that can be disks of their own.
func serverFolder(i int) string { return filepath.Join(serversDir, fmt.Sprint("s", i)) }
func nodeFolder(i int) string   { return filepath.Join(fmt.Sprint("n", i), dataDir) }

// disk is that of a folder of the cluster.
func (c *cluster) disk(folder string) *loopDisk {
	return c.env.disks[slices.Index(c.clusterOptions.disks, folder)]
}

// clusterDiskBytes is the size of a disk. An index wants 256 MiB free.
const clusterDiskBytes = 1 << 30
