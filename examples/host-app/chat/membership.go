package chat

import "github.com/chat-recall/recall/shared"

// membership is since when this server is a member of its cluster. A node that is gone for long is forgotten, and what
// its clients show may be recalled: when it is a member again, they must load that anew.
type membership struct{ since uint64 }

// beganAnew reports whether the cluster had forgotten this server. It is called with each state of the plugin.
func (m *membership) beganAnew(c *shared.ClusterState) bool {
	if c == nil {
		return false
	}
	for _, member := range c.Members {
		if member.Node == c.Node {
			was := m.since
			m.since = member.Since
			return was != 0 && was != m.since
		}
	}
	return false
}
