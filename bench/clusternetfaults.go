package main

import (
	"context"
	"time"
)

// Faults of the network.

func withNetwork(o *clusterOptions) { o.network = true }

// netDelay is how long each packet takes in the fault "delay".
const netDelay = 200 * time.Millisecond

// delayPackets is the fault "delay". A plugin is killed meanwhile, and must join through the slow network.
func delayPackets(ctx context.Context, c *cluster) error {
	if err := c.wait(ctx, faultAfter); err != nil {
		return err
	}
	progress("each packet takes %s", netDelay)
	c.env.net.setDelay(netDelay)
	if err := c.wait(ctx, 15*time.Second); err != nil {
		return err
	}
	n := c.all()[1]
	progress("the plugin of %s is killed", n.name)
	if err := n.killPlugin(ctx); err != nil {
		return err
	}
	return c.wait(ctx, 10*time.Second)
}

// partition is the fault "partition". First the packets of one node do not come to the servers, while it hears them.
// Then the server that leads the stream is cut off from the others, while the nodes reach it.
func partition(ctx context.Context, c *cluster) error {
	if err := c.wait(ctx, faultAfter); err != nil {
		return err
	}
	n := c.all()[1]
	progress("%s is not heard", n.name)
	well := n.troubled()
	c.env.net.cutOff([]*netPlace{n.place}, c.env.servers)
	if err := c.wait(ctx, awayTime); err != nil {
		return err
	}
	c.env.net.heal()
	if err := n.waitUntilConnected(ctx, true); err != nil {
		return err
	}
	well()
	leader, err := c.leaderLater(ctx)
	if err != nil {
		return err
	}
	progress("server s%d, the leader, is cut off from the others", leader)
	for _, n := range c.all() { // of each one, the connection may be to that server
		defer n.troubled()()
	}
	alone := []*netPlace{c.env.servers[leader]}
	c.env.net.cutOff(alone, c.env.servers)
	c.env.net.cutOff(c.env.servers, alone)
	if err := c.wait(ctx, awayTime); err != nil {
		return err
	}
	c.env.net.heal()
	if err := c.servers.WaitUntilCurrent(ctx, clusterStream); err != nil {
		return err
	}
	for _, n := range c.all() {
		if err := n.waitUntilConnected(ctx, true); err != nil {
			return err
		}
	}
	return nil
}
