package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/chat-recall/recall/shared"
)

// Faults of disks: one is full, or its power fails.

// diskNode is the node that has a disk of its own.
const diskNode = 1

func withNodeDisk(o *clusterOptions) { o.disks = []string{nodeFolder(diskNode)} }

func withServerDisks(o *clusterOptions) {
	for i := range clusterServers {
		o.disks = append(o.disks, serverFolder(i))
	}
}

// fullTime is how long a disk is full.
const fullTime = 12 * time.Second

// fillNodeDisk is the fault "disk_full_node".
func fillNodeDisk(ctx context.Context, c *cluster) error {
	if err := c.wait(ctx, faultAfter); err != nil {
		return err
	}
	n := c.all()[diskNode]
	defer n.troubled()()
	empty, err := c.disk(nodeFolder(diskNode)).fill()
	if err != nil {
		return err
	}
	progress("the disk of %s is full", n.name)
	if err = c.wait(ctx, fullTime); err == nil {
		err = c.checkFull(ctx, n)
	}
	if err := errors.Join(err, empty()); err != nil {
		return err
	}
	progress("the disk of %s has space again", n.name)
	return n.waitUntilWritable(ctx)
}

// checkFull checks that a node whose disk is full answers reads, and says what is wrong.
func (c *cluster) checkFull(ctx context.Context, n *clusterNode) error {
	ctx, cancel := context.WithTimeout(ctx, 2*tryTimeout)
	defer cancel()
	c.load.mu.Lock()
	first := c.load.messages[0].ID
	c.load.mu.Unlock()
	statuses, err := ask[[]shared.MessageStatus](ctx, n, "/status", []string{first})
	if err != nil {
		return fmt.Errorf("%s does not answer reads while its disk is full: %w", n.name, err)
	}
	if statuses[0].State == shared.MessageUnknown {
		return fmt.Errorf("%s does not know %s while its disk is full", n.name, first)
	}
	_, err = ask[[]shared.IndexResult](ctx, n, "/index", newMessages(1))
	if err == nil || !strings.Contains(err.Error(), "disk nearly full") {
		return fmt.Errorf("%s does not say that its disk is full, but answers %w", n.name, cmp.Or(err, errAcknowledged))
	}
	return nil
}

var errAcknowledged = errors.New("that a message is indexed")

// waitUntilWritable waits until the node takes a message.
func (n *clusterNode) waitUntilWritable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, nodeStartTimeout)
	defer cancel()
	for {
		_, err := ask[[]shared.IndexResult](ctx, n, "/index", newMessages(1))
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s takes no message: %w\n%s", n.name, errors.Join(ctx.Err(), err), n.lastLines())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// fillServerDisk is the fault "disk_full_server". A server of NATS ends JetStream when its disk is full, and has to be
// started again.
func fillServerDisk(ctx context.Context, c *cluster) error {
	leader, err := c.leaderLater(ctx)
	if err != nil {
		return err
	}
	empty, err := c.disk(serverFolder(leader)).fill()
	if err != nil {
		return err
	}
	progress("the disk of server s%d, the leader, is full", leader)
	err = c.wait(ctx, fullTime)
	log, readErr := os.ReadFile(c.servers.LogFile(leader))
	if err = errors.Join(err, readErr); err == nil && !strings.Contains(string(log), "no space left") {
		err = fmt.Errorf("server s%d does not log that its disk is full", leader)
	}
	if err := errors.Join(err, empty()); err != nil {
		return err
	}
	progress("the disk of server s%d has space again, and it is started again", leader)
	c.servers.Stop(leader)
	return c.startServer(ctx, leader)
}

// fill takes all free space of the disk, until empty is called.
func (d *loopDisk) fill() (empty func() error, err error) {
	f, err := os.Create(filepath.Join(d.folder, "ballast"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	end := int64(0)
	for size := int64(64 << 20); size >= 4096; {
		err := unix.Fallocate(int(f.Fd()), 0, end, size)
		switch {
		case err == nil:
			end += size
		case errors.Is(err, unix.ENOSPC):
			size /= 2
		case !errors.Is(err, unix.EINTR):
			return nil, err
		}
	}
	return func() error { return os.Remove(f.Name()) }, nil
}

// cutNodePower is the fault "power_node": the machine of a chat server loses what its disk had not yet written.
func cutNodePower(ctx context.Context, c *cluster) error {
	for range 2 {
		if err := c.wait(ctx, faultAfter); err != nil {
			return err
		}
		n, disk := c.all()[diskNode], c.disk(nodeFolder(diskNode))
		progress("the power of %s fails", n.name)
		well := n.troubled()
		if err := n.kill(); err != nil {
			return err
		}
		if err := errors.Join(disk.cutPower(), disk.restore()); err != nil {
			return err
		}
		if err := n.start(ctx); err != nil {
			return err
		}
		well()
	}
	return nil
}

// cutServerPower is the fault "power_server".
func cutServerPower(ctx context.Context, c *cluster) error {
	return c.cutServersPower(ctx, func(leader int) []int { return []int{leader} })
}

// cutAllServersPower is the fault "power_servers".
func cutAllServersPower(ctx context.Context, c *cluster) error {
	return c.cutServersPower(ctx, func(int) []int { return []int{0, 1, 2} })
}

// cutServersPower cuts the power of servers at the same moment, twice.
func (c *cluster) cutServersPower(ctx context.Context, of func(leader int) []int) error {
	for range 2 {
		leader, err := c.leaderLater(ctx)
		if err != nil {
			return err
		}
		servers := of(leader)
		progress("the power of the servers %v fails", servers)
		for _, do := range []func(int) error{
			func(i int) error { c.servers.Kill(i); return nil },
			func(i int) error { return c.disk(serverFolder(i)).cutPower() },
			func(i int) error { return c.disk(serverFolder(i)).restore() },
			func(i int) error { return c.servers.Start(ctx, i) },
		} {
			var all errgroup.Group
			for _, i := range servers {
				all.Go(func() error { return do(i) })
			}
			if err := all.Wait(); err != nil {
				return err
			}
		}
		if err := c.servers.WaitUntilCurrent(ctx, clusterStream); err != nil {
			return err
		}
	}
	return nil
}
