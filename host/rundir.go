package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
)

// makeRunDir makes the run directory, which holds private copies of plugin binaries, and sockets. It returns the path
// without symbolic links.
func makeRunDir(dir, file string) (string, error) {
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no folder for the plugin's private copy: %w; set host.Config.RunDir", err)
		}
		dir = filepath.Join(cache, "recall", shortHash(file))
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("make host.Config.RunDir: %w", err)
	}
	return ensureRunDir(dir)
}

// ensureRunDir makes the run directory where it is missing, for this user alone whatever the umask, and refuses one
// that another user could put a file into or exchange: what is in it is executed.
func ensureRunDir(dir string) (string, error) {
	dir, err := makePrivate(dir)
	if err != nil {
		return "", fmt.Errorf("make host.Config.RunDir: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("host.Config.RunDir: %w", err)
	}
	me := os.Geteuid()
	switch uid := owner(info); {
	case !info.IsDir():
		return "", fmt.Errorf("host.Config.RunDir %s is not a folder", dir)
	case uid != me:
		return "", fmt.Errorf("host.Config.RunDir %s belongs to user %d, and this server runs as user %d: "+
			"what is in it is executed; remove it, or name a folder of this server's own", dir, uid, me)
	case info.Mode().Perm()&0o022 != 0:
		return "", fmt.Errorf("host.Config.RunDir %s can be written by others (mode %04o): what is in it is executed; "+
			"remove it, or empty it and chmod 0700 it", dir, info.Mode().Perm())
	}
	return dir, nil
}

// makePrivate makes a folder and those above it that are missing, each with mode 0700, and checks those that are there:
// nobody but this user and root may be able to exchange what is in them. It returns the path without symbolic links.
func makePrivate(dir string) (string, error) {
	resolved, err := filepath.EvalSymlinks(dir)
	if err == nil {
		return resolved, checkParents(resolved)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	parent, err := makePrivate(filepath.Dir(dir))
	if err != nil {
		return "", err
	}
	if err := checkParent(parent); err != nil {
		return "", err
	}
	dir = filepath.Join(parent, filepath.Base(dir))
	switch err := os.Mkdir(dir, 0o700); {
	case errors.Is(err, fs.ErrExist): // made by another process meanwhile, or a dangling link, which ensureRunDir refuses
		return dir, nil
	case err != nil:
		return "", err
	}
	return dir, os.Chmod(dir, 0o700) // the umask may have taken away what we need
}

// checkParents is checkParent for every folder above dir.
func checkParents(dir string) error {
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		if err := checkParent(parent); err != nil || parent == filepath.Dir(parent) {
			return err
		}
	}
}

// checkParent refuses a folder in which other users could exchange a folder of ours. The sticky bit, as of /tmp, keeps
// them from that.
func checkParent(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	uid, mode := owner(info), info.Mode()
	switch {
	case uid != 0 && uid != os.Geteuid():
		return fmt.Errorf("the folder %s above it belongs to user %d, who could exchange what is in it; "+
			"choose a place below folders of root or of this server's user (%d)", dir, uid, os.Geteuid())
	case mode.Perm()&0o022 != 0 && mode&fs.ModeSticky == 0:
		return fmt.Errorf("the folder %s above it can be written by others (mode %04o), who could exchange what is in it; "+
			"chmod go-w it, or choose another place", dir, mode.Perm())
	}
	return nil
}

// owner is the user id of a file.
func owner(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

// lockRetry is how often a lock is tried again.
const lockRetry = 10 * time.Millisecond

// lockRunDir takes the folder for this host, waiting for another one that has it until ctx ends, or for a minute: two
// servers with one plugin.hcl, as in a rolling restart, take turns, and none clears away what is the other's.
func lockRunDir(ctx context.Context, dir string, logger hclog.Logger) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("host.Config.RunDir: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, activateTimeout)
	defer cancel()
	for told := false; ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock host.Config.RunDir %s: %w", dir, err), f.Close())
		}
		if !told {
			logger.Warn("waiting for another host with this plugin.hcl", "run_dir", dir, "at_most", activateTimeout)
			told = true
		}
		select {
		case <-time.After(lockRetry):
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("another host with this plugin.hcl runs (it holds %s): %w; "+
				"stop it, or give each server a file and an index of its own", dir, ctx.Err()), f.Close())
		}
	}
}

// sweep removes what hosts that were killed left in the folder. It is called by the one that holds the index.
func sweep(dir string, logger hclog.Logger, keep ...string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		logger.Warn("look for leftovers", "error", err)
		return
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		ours := strings.HasPrefix(e.Name(), "plugin-") || strings.HasPrefix(e.Name(), "copy-")
		if !ours || slices.Contains(keep, path) {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			logger.Warn("remove a leftover", "path", path, "error", err)
		}
	}
}
