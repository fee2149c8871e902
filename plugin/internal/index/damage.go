package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"google.golang.org/protobuf/proto"
)

// checkFolder looks for damage that Badger would repair by dropping data without a word. It removes empty logs: one is
// made empty and then given its size, and is emptied before it is removed, so a kill in between leaves it with nothing
// in it to lose; and Badger does not open beside it.
func checkFolder(path string, opts badger.Options) error {
	names := map[string][]string{}
	files, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, f := range files {
		ext := filepath.Ext(f.Name())
		if ext == ".mem" || ext == ".vlog" {
			info, err := f.Info()
			if err != nil {
				return err
			}
			if info.Size() == 0 {
				if err := os.Remove(filepath.Join(path, f.Name())); err != nil {
					return err
				}
				continue
			}
		}
		names[ext] = append(names[ext], f.Name())
	}
	named, err := checkManifest(path, opts, names[".sst"], len(names[".sst"])+len(names[".mem"]))
	if err != nil {
		return err
	}
	for _, name := range names[".sst"] {
		if !named(name) {
			continue // a crash left it half written, its data is in a log or in other tables; Badger removes it
		}
		if err := checkTable(filepath.Join(path, name)); err != nil {
			return err
		}
	}
	for _, name := range names[".mem"] {
		if err := checkLog(filepath.Join(path, name)); err != nil {
			return err
		}
	}
	return nil
}

// checkManifest looks at the list of tables and tells which it names. Badger cuts it where it is torn, makes a new one
// where it is missing, and removes every table that it does not name. A crash leaves neither of this beside tables that
// hold data, unless it comes in the very instant in which the last record is written; that cannot be told from damage,
// and is refused too.
func checkManifest(path string, opts badger.Options, tables []string, data int) (named func(table string) bool, err error) {
	fp, err := os.Open(filepath.Join(path, badger.ManifestFilename))
	if errors.Is(err, os.ErrNotExist) {
		if data == 0 {
			return nil, nil
		}
		return nil, fmt.Errorf("%w: %s is missing and %d files of data are there; restore the folder from a backup",
			ErrCorrupt, badger.ManifestFilename, data)
	}
	if err != nil {
		return nil, err
	}
	defer fp.Close()
	info, err := fp.Stat()
	if err != nil {
		return nil, err
	}
	manifest, end, err := badger.ReplayManifestFile(fp, 0, opts)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w; restore the folder from a backup", ErrCorrupt, badger.ManifestFilename, err)
	}
	named = func(table string) bool {
		id, err := strconv.ParseUint(strings.TrimSuffix(table, ".sst"), 10, 64)
		_, ok := manifest.Tables[id]
		return err == nil && ok
	}
	if end == info.Size() {
		return named, nil
	}
	for _, name := range tables {
		if !named(name) {
			return nil, fmt.Errorf("%w: %s is torn at byte %d and does not name %s; restore the folder from a backup",
				ErrCorrupt, badger.ManifestFilename, end, name)
		}
	}
	return named, nil
}

// checkTable looks at the footer of a table: index, its size, the checksum of it, and that one's size, where sizes are
// four bytes. Badger checks the checksum, but panics in a goroutine of its own where the sizes go beyond the file.
func checkTable(path string) error {
	damaged := func(what string) error {
		return fmt.Errorf("%w: %s: %s; restore the folder from a backup", ErrCorrupt, filepath.Base(path), what)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	footer := make([]byte, min(info.Size(), 64))
	if _, err := f.ReadAt(footer, info.Size()-int64(len(footer))); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	var sum pb.Checksum
	rest, checksum, ok := cutSized(footer)
	if !ok || proto.Unmarshal(checksum, &sum) != nil || pb.Checksum_Algorithm_name[int32(sum.Algo)] == "" {
		return damaged("its footer is damaged or cut off")
	}
	if len(rest) < 4 {
		return damaged("it is cut")
	}
	index := int64(binary.BigEndian.Uint32(rest[len(rest)-4:]))
	if before := info.Size() - int64(len(footer)-len(rest)) - 4; index == 0 || index > before {
		return damaged("its index is larger than the file")
	}
	return nil
}

// cutSized cuts from the end of data a part that its size follows.
func cutSized(data []byte) (rest, part []byte, ok bool) {
	if len(data) < 4 {
		return nil, nil, false
	}
	end := len(data) - 4
	size := int64(binary.BigEndian.Uint32(data[end:]))
	if size > int64(end) {
		return nil, nil, false
	}
	return data[:end-int(size)], data[end-int(size) : end], true
}
