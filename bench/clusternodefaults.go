package main

import (
	"context"
	"syscall"
	"time"
)

// Faults of chat nodes.

// pluginKills is how often the fault "plugins" kills one.
const pluginKills = 8

// killPlugins is the fault "plugins".
func killPlugins(ctx context.Context, c *cluster) error {
	for k := range pluginKills {
		if err := c.wait(ctx, 3*time.Second); err != nil {
			return err
		}
		n := c.all()[k%clusterNodes]
		progress("the plugin of %s is killed", n.name)
		if err := n.killPlugin(ctx); err != nil {
			return err
		}
	}
	return nil
}

// awayTime is how long a node is away for that the others take it for gone and go on.
const awayTime = clusterLease + 10*time.Second

// killHost is the fault "hosts".
func killHost(ctx context.Context, c *cluster) error {
	if err := c.wait(ctx, faultAfter); err != nil {
		return err
	}
	n := c.all()[1]
	progress("%s is killed", n.name)
	defer n.troubled()()
	if err := n.kill(); err != nil {
		return err
	}
	if err := c.wait(ctx, awayTime); err != nil {
		return err
	}
	return n.start(ctx)
}

// stopNode is the fault "stopped": the node is taken for dead, and is not.
func stopNode(ctx context.Context, c *cluster) error {
	if err := c.wait(ctx, faultAfter); err != nil {
		return err
	}
	n := c.all()[2]
	progress("%s is stopped", n.name)
	defer n.troubled()()
	if err := n.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	if err := c.wait(ctx, awayTime); err != nil {
		return err
	}
	if err := n.signal(syscall.SIGCONT); err != nil {
		return err
	}
	return n.waitUntilRunning(ctx, 0)
}

// upgradePlugins is the fault "rolling_plugins".
func upgradePlugins(ctx context.Context, c *cluster) error {
	for _, n := range c.all() {
		if err := c.wait(ctx, faultAfter); err != nil {
			return err
		}
		held, err := n.upgrade(ctx, c.binaries.next)
		if err != nil {
			return err
		}
		progress("the plugin of %s is upgraded; calls were held for %s", n.name, held.Round(time.Millisecond))
	}
	return nil
}

// startNode is the fault "node_added".
func startNode(ctx context.Context, c *cluster) error {
	if err := c.wait(ctx, 2*faultAfter); err != nil {
		return err
	}
	n, err := c.addNode()
	if err != nil {
		return err
	}
	began := now()
	if err := n.start(ctx); err != nil {
		return err
	}
	progress("%s is a member after %s", n.name, (now() - began).Round(time.Millisecond))
	return nil
}
