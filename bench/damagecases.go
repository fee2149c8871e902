package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// cases chooses what to damage: each file of each snapshot, the large ones at more places.
func (d *damager) cases(about int) ([]damageCase, error) {
	var list []damageCase
	for _, snapshot := range d.snapshots {
		var files []string
		err := filepath.WalkDir(snapshot, func(path string, e os.DirEntry, err error) error {
			if err == nil && !e.IsDir() && e.Name() != "LOCK" { // which holds the number of a process, for people
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		data := 0
		for _, f := range files {
			if isData(f) {
				data++
			}
		}
		each := max(4, (about/len(d.snapshots)-8*len(files))/max(data, 1)) // of the places in a file of data
		for _, f := range files {
			places := 4
			if isData(f) {
				places = each
			}
			more, err := d.casesOf(snapshot, f, places)
			if err != nil {
				return nil, err
			}
			list = append(list, more...)
		}
		list = append(list, d.casesOfFolder(snapshot)...)
	}
	return list, nil
}

func isData(file string) bool {
	ext := filepath.Ext(file)
	info, err := os.Stat(file)
	return (ext == ".sst" || ext == ".mem") && err == nil && info.Size() > 0
}

func (d *damager) casesOf(snapshot, file string, places int) ([]damageCase, error) {
	size, err := usedBytes(file)
	if err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(snapshot, file)
	if err != nil {
		return nil, err
	}
	var list []damageCase
	add := func(name string, change func(path string) error) {
		list = append(list, damageCase{snapshot, rel, name, change})
	}
	at := func() int64 { return d.random.Int64N(size) }
	if size > 0 {
		for range places {
			where, bit := at(), byte(1)<<d.random.IntN(8)
			add(fmt.Sprintf("bit flipped at %d of %d", where, size), func(path string) error {
				return editAt(path, where, 1, func(b []byte) { b[0] ^= bit })
			})
		}
		for range max(1, places/3) {
			where := at() &^ 4095
			add(fmt.Sprintf("page zeroed at %d of %d", where, size), func(path string) error {
				return editAt(path, where, 4096, func(b []byte) { clear(b) })
			})
		}
		for _, end := range []int64{0, 1, size / 2, size - 1, size &^ 4095, at()} {
			add(fmt.Sprintf("cut to %d of %d bytes", end, size), func(path string) error { return os.Truncate(path, end) })
		}
	}
	add("removed", os.Remove)
	for _, from := range []string{d.other, d.older} {
		replacement := filepath.Join(from, rel)
		if filepath.Ext(file) == ".sst" || filepath.Ext(file) == ".mem" { // whatever its number
			found, err := filepath.Glob(filepath.Join(from, "index", "*"+filepath.Ext(file)))
			if err != nil {
				return nil, err
			}
			found = slices.DeleteFunc(found, func(f string) bool { return !isData(f) })
			if len(found) == 0 {
				continue
			}
			replacement = found[d.random.IntN(len(found))]
		}
		if _, err := os.Stat(replacement); err == nil {
			add("replaced by "+filepath.Base(replacement)+" of "+strings.TrimPrefix(filepath.Base(from), "snapshot-"),
				func(path string) error { return errors.Join(os.Remove(path), copySparse(replacement, path)) })
		}
	}
	if filepath.Ext(file) == ".sst" {
		tables, err := filepath.Glob(filepath.Join(snapshot, "index", "*.sst"))
		if err != nil {
			return nil, err
		}
		for _, table := range tables {
			if table == file {
				continue
			}
			add("swapped with "+filepath.Base(table), func(path string) error {
				second := filepath.Join(filepath.Dir(path), filepath.Base(table))
				return errors.Join(os.Rename(path, path+".x"), os.Rename(second, path), os.Rename(path+".x", second))
			})
			break
		}
	}
	return list, nil
}

// casesOfFolder lose or replace the whole index.
func (d *damager) casesOfFolder(snapshot string) []damageCase {
	replaceBy := func(from string) func(string) error {
		return func(path string) error {
			return errors.Join(os.RemoveAll(path), copySparse(filepath.Join(from, "index"), path))
		}
	}
	return []damageCase{
		{snapshot, "index", "folder removed", os.RemoveAll},
		{snapshot, "index", "folder emptied", func(path string) error {
			return errors.Join(os.RemoveAll(path), os.Mkdir(path, 0o700))
		}},
		{snapshot, "index", "folder of another index", replaceBy(d.other)},
	}
}

// usedBytes is the size of a file without the zeros at its end.
func usedBytes(path string) (int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n := len(data)
	for n > 0 && data[n-1] == 0 {
		n--
	}
	return int64(n), nil
}

// editAt changes bytes of a file, as far as it has them.
func editAt(path string, at int64, n int, change func([]byte)) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	data := make([]byte, n)
	got, err := f.ReadAt(data, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	change(data[:got])
	_, err = f.WriteAt(data[:got], at)
	return err
}

// copySparse copies a file or a folder. Zeros at the end of a file become a hole.
func copySparse(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		n := len(data)
		for n > 0 && data[n-1] == 0 {
			n--
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		return errors.Join(os.WriteFile(to, data[:n], 0o600), os.Truncate(to, int64(len(data))))
	}
	files, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, f := range files {
		if err := copySparse(filepath.Join(from, f.Name()), filepath.Join(to, f.Name())); err != nil {
			return err
		}
	}
	return nil
}
