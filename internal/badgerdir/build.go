package badgerdir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// Build creates a database from a backup or from what can be read of a damaged one, in a folder that does not exist or
// is empty, or in the place of another database. The new database appears in one step, or not at all.
type Build struct {
	Path          string
	MemtableBytes int64
	Logger        hclog.Logger

	// Identity is that of the database whose keys are copied. Its ID may be empty.
	Identity Identity

	// Release closes the database in the folder, which the new one replaces; it is called once the new one is complete.
	// nil: there is none.
	Release func() error

	// copied is the version of the database up to which fill has copied, when it returns; nil: that of Identity. Keys of
	// the copy may all be of older versions.
	copied *uint64

	locked bool // whoever runs it holds the lock of the folder, also after Release

	// Identify writes into txn, as the last commit, which database this is: one of the same ID, if it is not empty, and of
	// a new epoch, which differs from all of epochs. It returns both.
	Identify func(txn *badger.Txn, id string, epochs []string) (Identity, error)
}

// run creates the database beside the folder, calls fill to put keys into it, and renames it to the folder. fill calls
// checkSpace again and again: Badger dies if the disk is full.
func (b Build) run(
	ctx context.Context, fill func(db *badger.DB, checkSpace func() error) error,
) (id Identity, err error) {
	path, err := filepath.Abs(b.Path)
	if err != nil {
		return Identity{}, err
	}
	folder, err := b.prepare(path)
	if err != nil {
		return Identity{}, err
	}
	temp := folder + tempSuffix
	if err := os.MkdirAll(temp, 0o700); err != nil {
		return Identity{}, err
	}
	unlock, err := lockClosed(temp) // another restore
	if err != nil {
		return Identity{}, err
	}
	defer unlock()
	defer os.RemoveAll(temp) // finds nothing once it is renamed, or what the new database has replaced
	if err := removeContents(temp); err != nil {
		return Identity{}, err
	}
	db, err := openBadger(BadgerOptions(temp, b.MemtableBytes, b.Logger))
	if err != nil {
		return Identity{}, err
	}
	space := newSpaceGuard(temp, memtablesToCommit*b.MemtableBytes) // as much as serving needs
	err = fill(db, space.look)
	if err == nil {
		id, err = b.identify(db, path)
	}
	if err := errors.Join(err, db.Close(), ctx.Err()); err != nil {
		return Identity{}, err
	}
	inside, err := createMarker(filepath.Join(temp, markerFile), id)
	if err != nil {
		return Identity{}, err
	}
	if err := errors.Join(inside.close(), ctx.Err()); err != nil {
		return Identity{}, err
	}
	if err := b.place(temp, folder); err != nil {
		return Identity{}, err
	}
	beside, err := createMarker(besidePath(path), id)
	if err != nil {
		b.Logger.Warn("no marker can be written beside the index", "path", besidePath(path), "error", err)
		return id, nil
	}
	return id, beside.close()
}

// tempSuffix is that of the folder in which a database is built.
const tempSuffix = ".restoring"

// prepare returns where the folder is: path may be a symbolic link, which stays.
func (b Build) prepare(path string) (folder string, err error) {
	if b.Release != nil {
		return filepath.EvalSymlinks(path)
	}
	if err := isFree(path, b.Identity); err != nil {
		return "", err
	}
	return vacate(path)
}

// place puts the new database in its place. Whoever waits for the lock of the folder that it replaces finds that it is
// not there any more, see lockFolder.
func (b Build) place(temp, folder string) error {
	if b.Release == nil {
		return errors.Join(os.Rename(temp, folder), syncFolderOf(folder))
	}
	if err := b.Release(); err != nil {
		return err
	}
	if !b.locked {
		unlock, err := lockClosed(folder)
		if err != nil {
			return err
		}
		defer unlock()
	}
	err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, folder, unix.RENAME_EXCHANGE)
	if err != nil {
		return fmt.Errorf("put the folder %s in the place of %s: %w; the file system has to exchange folders, as ext4, XFS "+
			"and Btrfs do, and if the folder is a mount point, name one in it", temp, folder, err)
	}
	return syncFolderOf(folder)
}

// RemoveUnfinished removes what a build left behind that was killed. It leaves one alone that is under way.
func RemoveUnfinished(path string) error {
	folder, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	temp := folder + tempSuffix
	if _, err := os.Stat(temp); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	unlock, err := lockClosed(temp)
	if errors.Is(err, ErrLocked) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	return os.RemoveAll(temp)
}

// identify makes the last commit of a database.
func (b Build) identify(db *badger.DB, folder string) (Identity, error) {
	epochs := []string{b.Identity.Epoch}
	if beside, ok, err := readMarker(besidePath(folder)); err == nil && ok {
		epochs = append(epochs, beside.Epoch)
	}
	version := max(b.Identity.Version, db.MaxVersion())
	if b.copied != nil {
		version = max(version, *b.copied)
	}
	version++
	txn := db.NewTransactionAt(version-1, true)
	defer txn.Discard()
	id, err := b.Identify(txn, b.Identity.ID, epochs)
	if err != nil {
		return Identity{}, err
	}
	id.Version = version
	return id, txn.CommitAt(version, nil)
}

// vacate removes the empty folder that the database replaces, if it exists. It returns where that is: path may be a
// symbolic link, which stays.
func vacate(path string) (folder string, err error) {
	folder, err = filepath.EvalSymlinks(path)
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Lstat(path); err == nil {
			return "", fmt.Errorf("%s is a link to a folder that does not exist; create that folder", path)
		}
		return path, nil
	}
	if err != nil {
		return "", err
	}
	if err := os.Remove(folder); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%w; if the folder is a mount point, name a new one in it and move its files up later", err)
	}
	return folder, nil
}

// removeContents empties a folder.
func removeContents(folder string) error {
	files, err := os.ReadDir(folder)
	for _, f := range files {
		err = errors.Join(err, os.RemoveAll(filepath.Join(folder, f.Name())))
	}
	return err
}

// isFree fails if a folder is not empty, or another database belongs there.
func isFree(folder string, id Identity) error {
	files, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(files) > 0 {
		return fmt.Errorf("%s is not empty; move it away first, or name another folder; if it is a mount point, name a new "+
			"one in it and move its files up afterwards", folder)
	}
	beside, ok, err := readMarker(besidePath(folder))
	if err == nil && ok && beside.ID != id.ID {
		return fmt.Errorf("%s says that the index %s belongs here, and this is %s; remove that file to put it here anyway",
			besidePath(folder), beside.ID, id.ID)
	}
	return nil
}
