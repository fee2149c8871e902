package hclfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
)

// MaxFileBytes bounds one file. It is far above what people write, and low enough to refuse the most hostile file
// within a second.
const MaxFileBytes = 256 << 10

// File is one file as it was read.
type File struct {
	Name string // in diagnostics
	Text []byte // must not be modified
}

// Read reads a regular file of at most limit bytes. It opens the file without blocking, so that it refuses a named pipe
// instead of waiting for it. The name must be UTF-8, since every diagnostic contains it.
func Read(name string, limit int64) ([]byte, error) {
	return ReadIf(name, limit, func(fs.FileInfo) error { return nil })
}

// ReadIf is Read for a file that check accepts. check gets the file that is open, so that nobody can replace the file
// in between.
func ReadIf(name string, limit int64, check func(fs.FileInfo) error) ([]byte, error) {
	if !utf8.ValidString(name) {
		return nil, errors.New("its name is not valid UTF-8; rename it")
	}
	info, err := os.Stat(name) // before opening it, since opening a device can have effects
	if err != nil {
		return nil, err
	}
	if err := regular(info.Mode()); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, err
	}
	if err := regular(info.Mode()); err != nil {
		return nil, err
	}
	if err := check(info); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if n := int64(len(text)); n > limit {
		return nil, TooLarge(max(n, info.Size()), limit)
	}
	return text, nil
}

// TooLarge returns the error for a file that is above a limit.
func TooLarge(size, limit int64) error {
	return fmt.Errorf("it is too large: it has %d bytes, and the limit is %d KiB (%d bytes)", size, limit>>10, limit)
}

func regular(m fs.FileMode) error {
	kind := "a device"
	switch {
	case m.IsRegular():
		return nil
	case m.IsDir():
		kind = "a directory"
	case m&fs.ModeNamedPipe != 0:
		kind = "a named pipe"
	case m&fs.ModeSocket != 0:
		kind = "a socket"
	}
	return fmt.Errorf("it is %s, not a regular file", kind)
}

// FileError reports that a file cannot be read.
func (r *Reporter) FileError(name, detail string, err error) {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	r.Errorf(hcl.Range{Filename: name}, detail, "cannot be read: %v", err)
}
