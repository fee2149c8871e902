package main

import (
	"context"
	"syscall"
	"time"
)

// Faults of the servers of the log.

// leaderLater waits until the load is under way, and returns the server that leads the stream then.
func (c *cluster) leaderLater(ctx context.Context) (server int, err error) {
	if err := c.wait(ctx, faultAfter); err != nil {
		return 0, err
	}
	return c.servers.Leader(ctx, clusterStream)
}

// startServer starts a server again, and waits until it has all of the stream.
func (c *cluster) startServer(ctx context.Context, server int) error {
	if err := c.servers.Start(ctx, server); err != nil {
		return err
	}
	return c.servers.WaitUntilCurrent(ctx, clusterStream)
}

// killLeaders is the fault "leader".
func killLeaders(ctx context.Context, c *cluster) error {
	for range 2 {
		leader, err := c.leaderLater(ctx)
		if err != nil {
			return err
		}
		progress("server s%d, the leader, is killed", leader)
		c.servers.Kill(leader)
		if err := c.wait(ctx, 6*time.Second); err != nil {
			return err
		}
		if err := c.startServer(ctx, leader); err != nil {
			return err
		}
	}
	return nil
}

// stopLeader is the fault "leader_stopped": when the server goes on, it believes that it still leads.
func stopLeader(ctx context.Context, c *cluster) error {
	leader, err := c.leaderLater(ctx)
	if err != nil {
		return err
	}
	progress("server s%d, the leader, is stopped", leader)
	if err := c.servers.Signal(leader, syscall.SIGSTOP); err != nil {
		return err
	}
	if err := c.wait(ctx, 14*time.Second); err != nil {
		return err
	}
	if err := c.servers.Signal(leader, syscall.SIGCONT); err != nil {
		return err
	}
	return c.servers.WaitUntilCurrent(ctx, clusterStream)
}

// killTwoServers is the fault "two_servers": nothing is acknowledged without a majority.
func killTwoServers(ctx context.Context, c *cluster) error {
	if err := c.wait(ctx, faultAfter); err != nil {
		return err
	}
	progress("servers s0 and s1 are killed")
	c.servers.Kill(0)
	c.servers.Kill(1)
	if err := c.wait(ctx, 8*time.Second); err != nil {
		return err
	}
	for i := range 2 {
		if err := c.servers.Start(ctx, i); err != nil {
			return err
		}
	}
	return c.servers.WaitUntilCurrent(ctx, clusterStream)
}

// rollServers is the fault "rolling_servers".
func rollServers(ctx context.Context, c *cluster) error {
	for i := range clusterServers {
		if err := c.wait(ctx, 3*time.Second); err != nil {
			return err
		}
		progress("server s%d is shut down", i)
		c.servers.Stop(i)
		if err := c.wait(ctx, 2*time.Second); err != nil {
			return err
		}
		if err := c.startServer(ctx, i); err != nil {
			return err
		}
	}
	return nil
}
