package host

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/chat-recall/recall/internal/config"
)

// maxBinaryBytes bounds what is copied: a device or an endless file named as the plugin must not fill the disk.
const maxBinaryBytes = 1 << 30

// ErrChecksum says that a binary does not have the configured SHA-256.
var ErrChecksum = errors.New("the binary has another SHA-256 than configured")

// errCopy says that a private copy is not what it was when it was made. It can be made again.
var errCopy = errors.New("private copy of the plugin binary")

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
	dir, err := ensureRunDir(dir)
	if err != nil {
		return stagedBinary{}, err
	}
	in, err := os.OpenFile(b.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe must not keep us waiting
	if errors.Is(err, os.ErrNotExist) {
		return stagedBinary{}, fmt.Errorf("plugin binary: %w; build it, or correct its path", err)
	}
	if err != nil {
		return stagedBinary{}, fmt.Errorf("plugin binary: %w", err)
	}
	defer in.Close()
	info, err := in.Stat()
	switch {
	case err != nil:
		return stagedBinary{}, fmt.Errorf("plugin binary: %w", err)
	case !info.Mode().IsRegular():
		return stagedBinary{}, fmt.Errorf("plugin binary %s is not a regular file", b.Path)
	case info.Mode().Perm()&0o111 == 0:
		return stagedBinary{}, fmt.Errorf("plugin binary %s is not executable; chmod +x it", b.Path)
	}
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
	if after, err := in.Stat(); err != nil || !sameFile(info, after) {
		return stagedBinary{}, fmt.Errorf("plugin binary %s was changed while it was copied; "+
			"put a new one there by rename (mv)", b.Path)
	}
	sum := hex.EncodeToString(hash.Sum(nil))
	if b.SHA256 != "" && !strings.EqualFold(sum, b.SHA256) {
		return stagedBinary{}, fmt.Errorf("plugin binary %s: %w: it has %s, configured is %s", b.Path, ErrChecksum, sum,
			strings.ToLower(b.SHA256))
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
	f, err := s.open()
	if err != nil {
		return err
	}
	f.Close()
	return nil
}

// A verifiedFile is an open copy that was read through and has its checksum, whatever is put at its path later. It
// is what to execute.
type verifiedFile struct {
	*os.File
	copy   stagedBinary
	leased bool // nobody can open it for writing until Close
}

// open opens the copy and verifies it.
func (s stagedBinary) open() (*verifiedFile, error) {
	f, err := os.OpenFile(s.path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCopy, err)
	}
	v := &verifiedFile{File: f, copy: s}
	v.leased, err = lease(f)
	if err == nil {
		err = s.check(f)
	}
	if err != nil {
		v.Close()
		return nil, fmt.Errorf("%w %s: %w", errCopy, s.path, err)
	}
	return v, nil
}

// Close lets others write the file, also where a child has its descriptor.
func (v *verifiedFile) Close() {
	if v.leased {
		_ = setLease(v.File, syscall.F_UNLCK)
	}
	v.File.Close()
}

// recheck is for a file that could not be executed because it was open for writing: whether it is still what it was.
func (v *verifiedFile) recheck() error {
	err := errors.New("another process opens it for writing")
	if !v.leased { // it may have been a fork, see leasePatience
		if _, err = v.Seek(0, io.SeekStart); err == nil {
			err = v.copy.check(v.File)
		}
	}
	if err != nil {
		return fmt.Errorf("%w %s: %w", errCopy, v.copy.path, err)
	}
	return nil
}

// leasePatience is how long a copy may stay open for writing: some other fork of this process, made while the copy was
// written, has its descriptor until it comes to its exec.
const leasePatience = time.Second

// lease keeps others from opening a file for writing: they wait until it is given back (fcntl(2), F_SETLEASE). Some
// network file systems have none, and it is not given; there another process of this very user could still write
// the file.
func lease(f *os.File) (given bool, err error) {
	for deadline := time.Now().Add(leasePatience); ; time.Sleep(10 * time.Millisecond) {
		err := setLease(f, syscall.F_RDLCK)
		switch {
		case err == nil:
			// Nobody is to be signaled about who waits.
			_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), syscall.F_SETOWN, 0)
			return true, nil
		case !errors.Is(err, syscall.EAGAIN):
			return false, nil
		case time.Now().After(deadline):
			return false, errors.New("is open for writing")
		}
	}
}

func setLease(f *os.File, kind uintptr) error {
	_, _, errno := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), syscall.F_SETLEASE, kind)
	if errno != 0 {
		return errno
	}
	return nil
}

// check reads an open copy through.
func (s stagedBinary) check(f *os.File) error {
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("is not a regular file")
	case owner(info) != os.Geteuid() || info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("can be changed by others (it belongs to user %d, mode %04o)", owner(info), info.Mode().Perm())
	case info.Mode().Perm()&0o100 == 0:
		return fmt.Errorf("is not executable: %w", os.ErrPermission)
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return err
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); sum != s.sha256 {
		return fmt.Errorf("%w: it has %s", ErrChecksum, sum)
	}
	return nil
}

// explain says what an error of exec means for a copy that was just verified.
func (s stagedBinary) explain(err error) error {
	var path *os.PathError
	if errors.As(err, &path) { // which names a descriptor
		err = path.Err
	}
	switch {
	case errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("%w: the file is there, but %s, which is to load it, is not on this machine: "+
			"build the plugin with CGO_ENABLED=0, so that it needs none", err, s.loader())
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("%w: %s is no program for this machine (%s/%s)%s",
			err, s.source, runtime.GOOS, runtime.GOARCH, s.machine())
	case errors.Is(err, syscall.EACCES):
		dir := filepath.Dir(s.path)
		var fs syscall.Statfs_t
		if syscall.Statfs(dir, &fs) == nil && fs.Flags&syscall.MS_NOEXEC != 0 {
			return fmt.Errorf("%w: %s is on a file system mounted noexec: "+
				"set host.Config.RunDir to a folder where programs may run", err, dir)
		}
		return fmt.Errorf("%w: nothing may be executed in %s, where the plugin's private copy is: "+
			"allow that (SELinux, AppArmor), or set host.Config.RunDir to another folder", err, dir)
	}
	return err
}

// loader is the program that the kernel starts for this one: the dynamic loader of an ELF file, the interpreter of
// a script.
func (s stagedBinary) loader() string {
	if file, err := elf.Open(s.path); err == nil {
		defer file.Close()
		for _, p := range file.Progs {
			if name := make([]byte, min(p.Filesz, 4096)); p.Type == elf.PT_INTERP {
				if _, err := p.ReadAt(name, 0); err == nil {
					return "the dynamic loader " + strings.TrimRight(string(name), "\x00")
				}
			}
		}
	}
	head := make([]byte, 256)
	if f, err := os.Open(s.path); err == nil {
		defer f.Close()
		n, _ := f.Read(head)
		line, _, _ := strings.Cut(string(head[:n]), "\n")
		if interpreter, ok := strings.CutPrefix(line, "#!"); ok {
			return "the interpreter " + strings.TrimSpace(interpreter)
		}
	}
	return "the dynamic loader"
}

// machine tells what an ELF file is built for.
func (s stagedBinary) machine() string {
	file, err := elf.Open(s.path)
	if err != nil {
		return ""
	}
	defer file.Close()
	return fmt.Sprintf("; it is built for %s", file.Machine)
}

// shortHash names something in a path.
func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}
