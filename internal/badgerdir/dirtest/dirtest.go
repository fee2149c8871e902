// Package dirtest finds, copies and damages the files of a Badger database, for tests.
package dirtest

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Snapshot copies the folder of a database, as a backup by hand does, and returns the path of the copy.
func Snapshot(t testing.TB, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(path)); err != nil {
		t.Fatal(err)
	}
	return to
}

// One returns the only file of a pattern that is not empty: the next log is an empty file.
func One(t testing.TB, path, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(path, pattern))
	found = slices.DeleteFunc(found, func(file string) bool {
		info, err := os.Stat(file)
		return err == nil && info.Size() == 0
	})
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v %v", pattern, found, err)
	}
	return found[0]
}

// Tables lists the tables of a database, at least one.
func Tables(t testing.TB, path string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(path, "*.sst"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v %v", files, err)
	}
	return files
}

// Edit changes the bytes of a file in place: Badger may have it mapped into memory.
func Edit(t testing.TB, file string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	data = change(data)
	_, err = f.WriteAt(data, 0)
	if err := errors.Join(err, f.Truncate(int64(len(data))), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// Flip is a change for [Edit] that flips a bit of the byte at an offset.
func Flip(at int) func([]byte) []byte {
	return func(b []byte) []byte { b[at] ^= 1; return b }
}
