package shared

import "time"

// Limits of a cluster.
const (
	MaxNodes     = 64 // of a cluster, those that are gone and not forgotten included
	MaxNodeBytes = 64 // of the name of a node
)

// ClusterState is what a node knows of its cluster.
type ClusterState struct {
	Node      string `json:"node"`
	Log       string `json:"log"`       // id of the log that the nodes share
	Connected bool   `json:"connected"` // to a server of the log
	Position  uint64 `json:"position"`  // of the last entry of the log that is applied here

	// Lag is how many entries another node had applied, when it was last heard, that this one has not. BehindSince is
	// since when there were any.
	Lag         uint64    `json:"lag"`
	BehindSince time.Time `json:"behind_since,omitzero"`

	Members []ClusterMember `json:"members"` // by name, this node included
}

// ClusterMember is a node as another one knows it.
type ClusterMember struct {
	Node         string `json:"node"`
	Version      string `json:"version"`                 // of its plugin
	Format       int    `json:"format"`                  // the newest format of entries that it reads
	PolicyDigest string `json:"policy_digest,omitempty"` // of its policy in force; empty: it was not heard yet
	Position     uint64 `json:"position"`                // of the last entry that it had applied when it was last heard
	Gone         bool   `json:"gone,omitempty"`          // it was silent for too long: others do its work

	// Since is the position of the entry of the log with which it became a member. It stays through restarts, upgrades and
	// the time in which the node is gone. If it changes, the node had left or was forgotten: nothing was kept of what it
	// missed, and its clients must load anew what they show, or catch up with [Recall.Since].
	Since uint64 `json:"since"`
}
