package host

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/chat-recall/recall/internal/config"
)

// maxBinaryBytes bounds what is copied: a device or an endless file named as the plugin must not fill the disk.
const maxBinaryBytes = 1 << 30

// ErrChecksum says that a binary is not the one whose SHA-256 was given.
var ErrChecksum = errors.New("the binary has another SHA-256 than configured")

// A stagedBinary is a private copy of a plugin binary, named by its content. What runs is this copy, so replacing or
// rebuilding the file that it came from changes nothing under a running host, and a rollback always has its binary.
type stagedBinary struct {
	source string // where it was copied from
	path   string // the copy
	sha256 string
}

// stage copies b into dir, checking it on the way, and returns the copy.
func stage(dir string, b Binary) (stagedBinary, error) {
	if b.SHA256 != "" {
		if err := config.CheckSHA256(b.SHA256); err != nil {
			return stagedBinary{}, fmt.Errorf("SHA256 of the plugin binary %s %w", b.Path, err)
		}
	}
	if b.Path == "" {
		return stagedBinary{}, errors.New("host.Binary.Path is empty: name the recall-plugin binary")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return stagedBinary{}, fmt.Errorf("make folder for the plugin's private copy: %w", err)
	}
	info, err := os.Stat(b.Path)
	if err != nil {
		return stagedBinary{}, fmt.Errorf("plugin binary: %w; build it, or correct its path", err)
	}
	if !info.Mode().IsRegular() {
		return stagedBinary{}, fmt.Errorf("plugin binary %s is not a regular file", b.Path)
	}
	if info.Mode().Perm()&0o111 == 0 {
		return stagedBinary{}, fmt.Errorf("plugin binary %s is not executable; chmod +x it", b.Path)
	}
	in, err := os.Open(b.Path)
	if err != nil {
		return stagedBinary{}, fmt.Errorf("plugin binary: %w", err)
	}
	defer in.Close()
	tmp, err := os.CreateTemp(dir, "copy-*")
	if err != nil {
		return stagedBinary{}, fmt.Errorf("copy plugin binary: %w", err)
	}
	defer os.Remove(tmp.Name()) // fails once it is renamed, as it should
	defer tmp.Close()
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(tmp, hash), io.LimitReader(in, maxBinaryBytes+1))
	if err != nil {
		return stagedBinary{}, fmt.Errorf("copy plugin binary %s: %w", b.Path, err)
	}
	if n > maxBinaryBytes {
		return stagedBinary{}, fmt.Errorf("plugin binary %s is larger than %d bytes", b.Path, maxBinaryBytes)
	}
	sum := hex.EncodeToString(hash.Sum(nil))
	if b.SHA256 != "" && !strings.EqualFold(sum, b.SHA256) {
		return stagedBinary{}, fmt.Errorf("plugin binary %s: %w: it has %s, configured is %s", b.Path, ErrChecksum, sum, strings.ToLower(b.SHA256))
	}
	staged := stagedBinary{source: b.Path, path: filepath.Join(dir, "plugin-"+sum), sha256: sum}
	if staged.verify() == nil { // there already, and maybe running: one process more of it shares its memory
		return staged, nil
	}
	if err := errors.Join(tmp.Chmod(0o500), tmp.Sync(), tmp.Close(), os.Rename(tmp.Name(), staged.path)); err != nil {
		return stagedBinary{}, fmt.Errorf("copy plugin binary %s: %w", b.Path, err)
	}
	return staged, nil
}

// verify reads the copy again: it may have lain on the disk for a long time.
func (s stagedBinary) verify() error {
	f, err := os.Open(s.path)
	if err != nil {
		return fmt.Errorf("private copy of the plugin binary: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Mode().Perm()&0o100 == 0 {
		return fmt.Errorf("private copy %s is not executable: %w", s.path, errors.Join(err, os.ErrPermission))
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return fmt.Errorf("private copy of the plugin binary: %w", err)
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); sum != s.sha256 {
		return fmt.Errorf("private copy %s: %w: it has %s", s.path, ErrChecksum, sum)
	}
	return nil
}

// shortHash names something in a path.
func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}
