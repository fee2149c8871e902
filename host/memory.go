package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

// memoryFile is the file in the run directory that remembers which index this host used.
const memoryFile = "index.json"

// A memory remembers the index of a host and how far it had come. A plugin that finds another index, an older one or none
// where it should be, would not know what was sent and recalled: the folder may be on a disk that is not mounted.
type memory struct {
	path   string
	logger hclog.Logger

	mu   sync.Mutex
	last shared.IndexIdentity
}

// newMemory reads what is remembered in a run directory.
func newMemory(runDir string, logger hclog.Logger) (*memory, error) {
	m := &memory{path: filepath.Join(runDir, memoryFile), logger: logger}
	text, err := os.ReadFile(m.path)
	if errors.Is(err, os.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what this host remembers of its index: %w", err)
	}
	if err := json.Unmarshal(text, &m.last); err != nil {
		m.last = shared.IndexIdentity{} // a part of it would be another index
		logger.Warn("what this host remembers of its index is damaged, and is written anew", "path", m.path, "error", err)
	}
	return m, nil
}

// index is what is remembered; its ID is empty where nothing is.
func (m *memory) index() shared.IndexIdentity {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

// keep remembers an index that a plugin has open.
func (m *memory) keep(id shared.IndexIdentity) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if id.ID == "" || id == m.last {
		return
	}
	m.last = id
	text, err := json.Marshal(id)
	temp := m.path + ".new"
	if err == nil {
		err = os.WriteFile(temp, text, 0o600)
	}
	if err == nil {
		err = os.Rename(temp, m.path)
	}
	if err != nil {
		m.logger.Warn("this host cannot remember its index", "path", m.path, "error", err)
	}
}
