package shared

// IndexIdentity identifies an index, the last restore of it, and its last commit.
type IndexIdentity struct {
	ID      string `json:"id"`      // never changes
	Epoch   string `json:"epoch"`   // new when the index is created or restored; a cursor is valid in one epoch
	Version uint64 `json:"version"` // of its last commit
}

// Description is what a plugin binary reports about itself.
type Description struct {
	Name             string `json:"name"`
	Version          string `json:"version"`
	ProtocolVersions []int  `json:"protocol_versions"` // major versions of the wire protocol that it serves, ascending
	IndexFormat      int    `json:"index_format"`      // version of the index format that it reads and writes

	// Capabilities are the optional features that this process offers beyond its protocol version, such as a faster
	// transport for calls. A host ignores those that it does not know.
	Capabilities []string `json:"capabilities,omitempty"`
}
