package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// resumption is the content of FILE.resume, while the export to FILE is not complete.
type resumption struct {
	Filter  filter `json:"filter"`
	After   string `json:"after"`   // the cursor behind the first Bytes of the file
	Bytes   int64  `json:"bytes"`   // of whole lines, on disk
	Recalls int    `json:"recalls"` // in them
}

// toFile writes to a file, or continues an export to it.
func (e *exporter) toFile(ctx context.Context, path string) error {
	beside, r := path+".resume", resumption{}
	text, err := os.ReadFile(beside)
	switch {
	case err == nil:
		if err := json.Unmarshal(text, &r); err != nil {
			return fmt.Errorf("read %s: %w; remove it and %s to export from the start", beside, err, path)
		}
		was, _ := json.Marshal(r.Filter)
		if is, _ := json.Marshal(e.filter); !bytes.Equal(was, is) {
			return fmt.Errorf("%s is of an export with other filters, %s; remove it and %s to export from the start", beside,
				was, path)
		}
		fmt.Fprintf(e.progress, "continuing after %d recalls\n", r.Recalls)
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s exists; remove it, or name another file", path)
		}
		r.Filter = e.filter
		if err := replaceFile(beside, r); err != nil { // first: what exists without it is complete
			return err
		}
	default:
		return err
	}
	e.resume = func() string { return "the same command continues it" }
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(r.Bytes); err != nil {
		return err
	}
	if _, err := f.Seek(r.Bytes, io.SeekStart); err != nil {
		return err
	}
	e.after, e.recalls = r.After, r.Recalls
	err = e.pages(ctx, func(lines []byte, more bool) error {
		if _, err := f.Write(lines); err != nil {
			return errors.Join(err, f.Truncate(r.Bytes))
		}
		if err := f.Sync(); err != nil {
			return err
		}
		if !more {
			return nil
		}
		r.After, r.Recalls, r.Bytes = e.after, e.recalls, r.Bytes+int64(len(lines))
		return replaceFile(beside, r)
	})
	if errors.Is(err, errReset) {
		return fmt.Errorf("%w; remove %s and %s to export from the start", err, beside, path)
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Remove(beside)
}

// replaceFile writes a file as JSON, as a whole or not at all.
func replaceFile(path string, content any) error {
	text, err := json.Marshal(content)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
