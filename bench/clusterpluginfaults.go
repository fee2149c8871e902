package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Faults of plugins: what is wrong is built into them, see package faulty.

// everyPlugin has the plugin of every node have a fault.
func everyPlugin(fault string) func(o *clusterOptions) {
	return func(o *clusterOptions) { o.plugins = slices.Repeat([]string{fault}, clusterNodes) }
}

// clockSkews are how far the clocks of the nodes are off in the fault "clocks".
var clockSkews = [clusterNodes]time.Duration{0, time.Hour, -time.Hour}

// withOtherClocks has the plugins go by other clocks, and the chat servers write the times of their messages by them.
func withOtherClocks(o *clusterOptions) {
	o.plugins = []string{"", "clock-ahead", "clock-behind"}
	o.skews = clockSkews
}

// mixVersions is the fault "mixed". Old plugins are replaced by new ones, one after the other. When all are new, the
// entries have the new format, and none goes back.
func mixVersions(ctx context.Context, c *cluster) error {
	for _, n := range c.all() {
		if err := c.wait(ctx, faultAfter); err != nil {
			return err
		}
		if _, err := n.upgrade(ctx, c.binaries.plugin); err != nil {
			return err
		}
		progress("%s has a new version", n.name)
	}
	if err := c.wait(ctx, faultAfter); err != nil {
		return err
	}
	n := c.all()[1]
	before, err := n.state(ctx)
	if err != nil {
		return err
	}
	_, err = n.upgrade(ctx, c.env.faulty[1])
	progress("going back: %v", err)
	if err == nil {
		return errors.New("a plugin that does not read the newest entries has taken over")
	}
	after, err := n.state(ctx)
	if err == nil && after.PID != before.PID {
		err = fmt.Errorf("%s has lost its plugin to one that was refused", n.name)
	}
	return err
}
