package main

import (
	"context"
	"time"
)

// A clusterFault is what is done to a cluster under load.
type clusterFault struct {
	name, help string

	// options, if not nil, changes the cluster before it is started.
	options func(o *clusterOptions)

	// check, if not nil, takes the place of [cluster.check]. The cluster answers no more when run has returned.
	check func(ctx context.Context, c *cluster, r *clusterReport) error

	// run does it, from the beginning of the load on. The load goes on after that until its time is up, and everything
	// must be well then.
	run func(ctx context.Context, c *cluster) error
}

// clusterFaults are all faults, in the order in which they are run.
var clusterFaults = []clusterFault{
	{name: "none", help: "nothing goes wrong", run: noFault},
	{name: "leader", help: "the server that leads the stream is killed, twice", run: killLeaders},
	{name: "leader_stopped", help: "the server that leads the stream is stopped for 14 s and goes on", run: stopLeader},
	{name: "two_servers", help: "two of the three servers are killed, and back after 8 s", run: killTwoServers},
	{name: "plugins", help: "a plugin is killed every 3 s", run: killPlugins},
	{name: "hosts", help: "a chat server is killed with its plugin, and away for longer than the lease", run: killHost},
	{name: "stopped", help: "a chat server and its plugin are stopped for longer than the lease: they are taken for dead",
		run: stopNode},
	{name: "rolling_plugins", help: "each plugin is upgraded to another version", run: upgradePlugins},
	{name: "rolling_servers", help: "each server is shut down and started again, one after the other", run: rollServers},
	{name: "node_added", help: "a fourth chat server joins", run: startNode},
	{name: "trimmed", help: "a chat server is away until the log does not go back to where it was",
		options: oftenSnapshots, run: trimLog},
	{name: "snapshots", help: "plugins are killed while they take a snapshot, trim the log and restore a snapshot",
		options: oftenSnapshots, run: killInSnapshots},
	{name: "stream_deleted", help: "the stream is deleted: no node goes on", run: deleteStream, check: checkDeleted},
	{name: "tls", help: "with TLS, the credentials of a chat server are revoked and given back", options: withTLS,
		run: revokeCredentials},
	{name: "delay", help: "each packet between nodes and servers takes 200 ms", options: withNetwork, run: delayPackets},
	{name: "partition", help: "a node is not heard; then the server that leads is cut off from the others, and not from " +
		"the nodes", options: withNetwork, run: partition},
	{name: "disk_full_node", help: "the disk of a chat server is full for 12 s", options: withNodeDisk,
		run: fillNodeDisk},
	{name: "disk_full_server", help: "the disk of the server that leads is full for 12 s", options: withServerDisks,
		run: fillServerDisk},
	{name: "power_node", help: "the power of a chat server's machine fails, twice", options: withNodeDisk,
		run: cutNodePower},
	{name: "power_server", help: "the power of the server that leads fails, twice", options: withServerDisks,
		run: cutServerPower},
	{name: "power_servers", help: "the power of all three servers fails at the same moment, twice",
		options: withServerDisks, run: cutAllServersPower},
	{name: "clocks", help: "the clock of a chat server is 1 h ahead, and that of another one 1 h behind",
		options: withOtherClocks, run: noFault},
	{name: "mixed", help: "plugins that write an older format of entries are upgraded, and one is to go back",
		options: everyPlugin("old-format"), run: mixVersions},
	{name: "copies", help: "every entry is put into the log twice", options: everyPlugin("twice"), run: noFault},
}

// faultAfter is how long the load runs before anything is done.
const faultAfter = 5 * time.Second

func noFault(context.Context, *cluster) error { return nil }
