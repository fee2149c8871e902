package shared

// IndexIdentity names an index, one restore of it, and how far it has come.
type IndexIdentity struct {
	ID      string `json:"id"`      // of the index, for its life
	Epoch   string `json:"epoch"`   // of the index since it was made or restored from a copy; cursors are of one epoch
	Version uint64 `json:"version"` // of its last commit
}
