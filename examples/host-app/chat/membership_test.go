package chat

import (
	"testing"

	"github.com/chat-recall/recall/shared"
)

func TestMembership(t *testing.T) {
	since := func(n uint64) *shared.ClusterState {
		members := []shared.ClusterMember{{Node: "n0", Since: 1}, {Node: "n1", Since: n}}
		return &shared.ClusterState{Node: "n1", Members: members}
	}
	var m membership
	for i, c := range []struct {
		state *shared.ClusterState
		anew  bool
	}{
		{nil, false}, {since(7), false}, {nil, false}, {since(7), false},
		{&shared.ClusterState{Node: "n1"}, false}, // it is forgotten
		{since(90), true}, {since(90), false},
	} {
		if got := m.beganAnew(c.state); got != c.anew {
			t.Errorf("state %d: %v", i, got)
		}
	}
}
