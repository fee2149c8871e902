package shared

// IndexIdentity names an index, one restore of it, and how far it has come.
type IndexIdentity struct {
	ID      string `json:"id"`      // of the index, for its life
	Epoch   string `json:"epoch"`   // of the index since it was made or restored from a copy; cursors are of one epoch
	Version uint64 `json:"version"` // of its last commit
}

// Description is what a plugin binary says of itself.
type Description struct {
	Name             string `json:"name"`
	Version          string `json:"version"`
	ProtocolVersions []int  `json:"protocol_versions"` // wire majors it serves, ascending
	IndexFormat      int    `json:"index_format"`      // the format version of the index it reads and writes

	// Capabilities are what this process offers beyond its protocol version, such as a faster way for calls. A host
	// ignores those that it does not know.
	Capabilities []string `json:"capabilities,omitempty"`
}
