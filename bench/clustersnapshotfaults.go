package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"
)

// Faults of snapshots, and of the log that is trimmed up to them.

// oftenSnapshots has snapshots as often as they can be.
func oftenSnapshots(o *clusterOptions) { o.snapshotEntries = 1000 }

// Lines of the plugin's log about snapshots.
const (
	logTaking    = "taking a snapshot of the index"
	logTook      = "took a snapshot of the index"
	logRestoring = "the index begins anew from a snapshot"
	logRestored  = "the index has begun anew"
)

const (
	snapshotKills = 3                     // of each kind
	snapshotTime  = 60 * time.Millisecond // about that of a snapshot, its restore, or of trimming
)

// killAndTrim kills a chat server, and waits until the log does not go back to where it was.
func killAndTrim(ctx context.Context, c *cluster, n *clusterNode) error {
	position, err := n.position(ctx)
	if err != nil {
		return err
	}
	progress("%s is killed at entry %d of the log", n.name, position)
	if err := n.kill(); err != nil {
		return err
	}
	for {
		var info struct {
			State struct {
				First uint64 `json:"first_seq"`
			} `json:"state"`
		}
		if err := c.servers.API(ctx, "STREAM.INFO."+clusterStream, nil, &info); err != nil {
			return err
		}
		if info.State.First > position+1 {
			progress("the log begins with entry %d", info.State.First)
			return nil
		}
		if err := c.wait(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// trimLog is the fault "trimmed".
func trimLog(ctx context.Context, c *cluster) error {
	if err := c.wait(ctx, faultAfter); err != nil {
		return err
	}
	n := c.all()[2]
	defer n.troubled()()
	from := n.logSize()
	if err := killAndTrim(ctx, c, n); err != nil {
		return err
	}
	if err := n.start(ctx); err != nil {
		return err
	}
	if !n.hasLogged(from, logRestored) {
		return fmt.Errorf("%s has not begun anew, and the log does not go back to where it was", n.name)
	}
	return nil
}

// killInSnapshots is the fault "snapshots".
func killInSnapshots(ctx context.Context, c *cluster) error {
	taker, away := c.all()[0], c.all()[2]
	for _, line := range []string{logTaking, logTook} { // after the latter it trims
		for range snapshotKills {
			if err := taker.waitForLog(ctx, taker.logSize(), line); err != nil {
				return err
			}
			time.Sleep(rand.N(snapshotTime))
			progress("the plugin of %s is killed after it has logged %q", taker.name, line)
			if err := taker.killPlugin(ctx); err != nil {
				return err
			}
		}
	}
	defer away.troubled()()
	if err := killAndTrim(ctx, c, away); err != nil {
		return err
	}
	for range snapshotKills {
		from := away.logSize()
		if err := away.launch(); err != nil {
			return err
		}
		if err := away.waitForLog(ctx, from, logRestoring); err != nil {
			return err
		}
		time.Sleep(rand.N(snapshotTime))
		progress("%s is killed after it has logged %q", away.name, logRestoring)
		if err := away.kill(); err != nil {
			return err
		}
		if away.hasLogged(from, logRestored) {
			progress("it had begun anew before that")
			break
		}
	}
	if err := away.start(ctx); err != nil {
		return err
	}
	left, err := filepath.Glob(away.path(indexDir + ".restoring*"))
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%s has left %q behind", away.name, left)
	}
	return err
}
