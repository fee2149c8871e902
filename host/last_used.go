package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/shared"
)

// lastUsedFile is the file of the run directory that remembers what the last host with this run directory used.
const lastUsedFile = "last-used.json"

const maxLastUsedBytes = 64 << 10

// PreviousBinary is a plugin binary that was in force before.
type PreviousBinary struct {
	Binary  string `json:"binary"` // the file that it was copied from
	SHA256  string `json:"sha256"`
	Version string `json:"version"`
}

// lastUsed remembers the index and the binary that a host used last.
//
// A plugin that finds another index, an older one or none where it should be, would not know what was sent and
// recalled: the folder may be on a disk that is not mounted.
type lastUsed struct {
	path   string
	logger hclog.Logger

	mu   sync.Mutex
	last lastUsedContent
}

// lastUsedContent is the file. What is not known is zero.
type lastUsedContent struct {
	Index  shared.IndexIdentity `json:"index"`
	Binary PreviousBinary       `json:"binary"`
}

// readLastUsed reads the file of a run directory. A damaged one counts as none: it is a copy of what the index itself
// says.
func readLastUsed(runDir string, logger hclog.Logger) (*lastUsed, error) {
	u := &lastUsed{path: filepath.Join(runDir, lastUsedFile), logger: logger}
	text, err := hclfile.Read(u.path, maxLastUsedBytes)
	if errors.Is(err, os.ErrNotExist) {
		return u, nil
	}
	if err != nil {
		return nil, fmt.Errorf(
			"read which index and binary were used last, %s: %w; remove the file to open without it",
			u.path,
			err,
		)
	}
	if err := json.Unmarshal(text, &u.last); err != nil {
		u.last = lastUsedContent{} // a part of it would be another index
		logger.Warn("the file that says which index and binary were used last is damaged, and is written anew",
			"path", u.path, "error", err)
	}
	return u, nil
}

// index is the index that was used last; its ID is empty where that is not known.
func (u *lastUsed) index() shared.IndexIdentity { return u.content().Index }

// binary is the binary that was in force last; zero where that is not known.
func (u *lastUsed) binary() PreviousBinary { return u.content().Binary }

func (u *lastUsed) content() lastUsedContent {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.last
}

// keepIndex remembers the index that a plugin has open.
func (u *lastUsed) keepIndex(id shared.IndexIdentity) {
	if id.ID != "" { // else the plugin is from before an index had one
		u.keep(func(c *lastUsedContent) { c.Index = id })
	}
}

// keepBinary remembers the binary in force.
func (u *lastUsed) keepBinary(b PreviousBinary) { u.keep(func(c *lastUsedContent) { c.Binary = b }) }

// keep writes a change to the file.
func (u *lastUsed) keep(change func(*lastUsedContent)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	before := u.last
	if change(&u.last); u.last == before {
		return
	}
	text, err := json.Marshal(u.last)
	temp := u.path + ".new"
	if err == nil {
		err = os.WriteFile(temp, text, 0o600)
	}
	if err == nil {
		err = os.Rename(temp, u.path)
	}
	if err != nil {
		u.logger.Warn("which index and binary are used will not be known after a restart", "path", u.path, "error", err)
	}
}
