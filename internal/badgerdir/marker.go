package badgerdir

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/shared"
)

// A marker says which database belongs in a place and how far it had come. One is in the folder, and a copy of the
// folder takes it along. The other is beside the folder, and stays when the folder is lost, emptied or replaced.
//
// A commit writes its version to both after it is synced, and before it is acknowledged. So a database whose files hold
// less than its marker says has lost commits that were acknowledged. Markers are not synced at each commit: after a
// power failure they may be behind, but never ahead.
//
// A marker is two lines of text of equal length, written in turn, each with its checksum: a torn write leaves the line
// before.
const (
	markerFile   = "MARKER"  // in the folder
	markerSuffix = ".marker" // beside the folder
	markerTag    = "recall-index"
	markerBytes  = 128 // a line

	markerSumBytes = 9 // of a line: its checksum in hex, and its end
)

// Identity names a database, one restore of it, and how far it has come.
type Identity = shared.IndexIdentity

// markerLine is a line of a marker.
func markerLine(id Identity) []byte {
	line := make([]byte, 0, markerBytes)
	line = append(line, markerTag...)
	line = append(line, " id="...)
	line = append(line, id.ID...)
	line = append(line, " epoch="...)
	line = append(line, id.Epoch...)
	line = append(line, " version="...)
	line = strconv.AppendUint(line, id.Version, 10)
	for len(line) < markerBytes-markerSumBytes {
		line = append(line, ' ')
	}
	line = fmt.Appendf(line, "%08x", crc32.Checksum(line, castagnoli))
	return append(line, '\n')
}

// parseMarkerLine reads a line.
func parseMarkerLine(line []byte) (id Identity, ok bool) {
	if len(line) != markerBytes {
		return Identity{}, false
	}
	fields := strings.Fields(string(line[:markerBytes-markerSumBytes]))
	if len(fields) != 4 || fields[0] != markerTag {
		return Identity{}, false
	}
	var found [3]bool
	id.ID, found[0] = strings.CutPrefix(fields[1], "id=")
	id.Epoch, found[1] = strings.CutPrefix(fields[2], "epoch=")
	version, cut := strings.CutPrefix(fields[3], "version=")
	n, err := strconv.ParseUint(version, 10, 64)
	id.Version, found[2] = n, cut && err == nil
	return id, found == [3]bool{true, true, true} && bytes.Equal(markerLine(id), line)
}

// readMarker reads a marker; ok is false if there is none. A damaged one is an error.
func readMarker(path string) (id Identity, ok bool, err error) {
	text, err := hclfile.Read(path, 2*markerBytes)
	if errors.Is(err, os.ErrNotExist) {
		return Identity{}, false, nil
	}
	if err != nil {
		return Identity{}, false, fmt.Errorf("read the marker of the index, %s: %w; remove it", path, err)
	}
	for i := 0; i+markerBytes <= len(text) && i < 2*markerBytes; i += markerBytes {
		if line, good := parseMarkerLine(text[i : i+markerBytes]); good && (!ok || line.Version > id.Version) {
			id, ok = line, true
		}
	}
	if !ok {
		return Identity{}, false, fmt.Errorf("%w: %s holds no marker of an index", errMarkerDamaged, path)
	}
	return id, true, nil
}

var errMarkerDamaged = errors.New("a marker is damaged")

// marker is a marker that is open for writing. It is mapped into memory because each commit writes it, and the folder
// beside the index is often one of configuration, which others watch for changes. Ordinary writes woke the watchers of
// the host and of the plugin at every commit (without them, one caller: p50 0.7 ×).
type marker struct {
	file *os.File
	data []byte // of the file
	line int    // to write next
}

// mapMarker maps the file of a marker of two lines, and takes it over.
func mapMarker(f *os.File) (*marker, error) {
	data, err := syscall.Mmap(int(f.Fd()), 0, 2*markerBytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map %s: %w", f.Name(), err), f.Close())
	}
	return &marker{file: f, data: data}, nil
}

// openMarker opens a marker to go on writing it, or replaces one that is not of this database or ahead of it.
func openMarker(path string, id Identity) (*marker, error) {
	was, ok, err := readMarker(path)
	if err != nil || !ok || was.ID != id.ID || was.Epoch != id.Epoch || was.Version > id.Version {
		return createMarker(path, id)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	m, err := mapMarker(f)
	if err != nil {
		return nil, err
	}
	return m, m.write(markerLine(id))
}

// createMarker writes both lines of a marker and puts it on disk, in place of the one before.
func createMarker(path string, id Identity) (*marker, error) {
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	line := markerLine(id)
	_, err = f.Write(append(line, line...))
	if err := errors.Join(err, f.Sync(), os.Rename(temp, path)); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(temp))
	}
	if err := syncFolderOf(path); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return mapMarker(f)
}

// write puts a line into the marker, which need not reach the disk at once. It fails if somebody has cut the file.
func (m *marker) write(line []byte) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("write %s: %v", m.file.Name(), r)
		}
	}()
	m.line = 1 - m.line
	copy(m.data[m.line*markerBytes:], line)
	return nil
}

func (m *marker) close() error {
	return errors.Join(m.file.Sync(), syscall.Munmap(m.data), m.file.Close())
}
