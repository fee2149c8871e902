package host

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
)

// PreviousBinary is a plugin binary that was in force before.
type PreviousBinary struct {
	Binary  string `json:"binary"` // the file that it was copied from
	SHA256  string `json:"sha256"`
	Version string `json:"version"`
}

// lastInForce is the file of the run directory that says which binary was in force last.
const lastInForce = "last-in-force.json"

// readPrevious returns the binary that was in force last, by this or by an earlier host with this run directory. It
// is nil where that is not known.
func readPrevious(runDir string, logger hclog.Logger) *PreviousBinary {
	data, err := os.ReadFile(filepath.Join(runDir, lastInForce))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var p PreviousBinary
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err != nil {
		logger.Warn("which binary was in force last is not known", "error", err)
		return nil
	}
	return &p
}

// writePrevious remembers the binary that is in force now.
func writePrevious(runDir string, p PreviousBinary) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(runDir, "copy-*") // swept, should we die here
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return os.Rename(tmp.Name(), filepath.Join(runDir, lastInForce))
}
