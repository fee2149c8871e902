package replay

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/chat-recall/recall/examples/host-app/chat"
)

const (
	// window is how many bytes of a text must be found together to be taken for that text.
	window = 16

	// stride is from one window of a text to the next, so any window+stride-1 bytes of it in a row are found.
	stride = 8

	// common is how many bytes in a row a window may not share with what may be there. Less than a window, because
	// what may be there is followed by any byte: by chance also by the one that follows in the text.
	common = 12

	// minDistinct bytes make a window a piece of text and not a line of dashes or an empty page.
	minDistinct = 6

	hashBase   = 0x9E3779B97F4A7C15
	filterBits = 27
)

// fragments is a set of pieces of texts to look for in files. First allow what may be there, then add what may not.
type fragments struct {
	of      map[uint64]string // the hash of a window → the name of its text
	filter  [1 << 16]uint64   // a bit for each hash, to pass over most bytes without looking into the map
	allowed []uint64          // two bits for each piece that may be there; a mistake in some thousands only loses a window
}

func newFragments() *fragments {
	return &fragments{of: make(map[uint64]string), allowed: make([]uint64, 1<<filterBits/64)}
}

// allow takes a text as one that may be there.
func (f *fragments) allow(text string) {
	_ = roll(strings.NewReader(text), common, func(h uint64) { // a string cannot fail to be read
		for _, bit := range allowedBits(h) {
			f.allowed[bit/64] |= 1 << (bit % 64)
		}
	})
}

func allowedBits(h uint64) [2]uint64 {
	return [2]uint64{h >> (64 - filterBits), h << filterBits >> (64 - filterBits)}
}

// add looks for a text from now on: as it is, and the runs of it that look the same inside JSON.
func (f *fragments) add(text, name string) {
	start := 0
	for i := 0; i <= len(text); i++ {
		if i == len(text) || text[i] == '"' || text[i] == '\\' || text[i] < ' ' || text[i] == 0x7f {
			f.addWindows(text[start:i], name)
			start = i + 1
		}
	}
	f.addWindows(text, name)
}

func (f *fragments) addWindows(text, name string) {
	for ; len(text) >= window; text = text[stride:] {
		piece := text[:window]
		var seen [256]bool
		distinct := 0
		for i := range window {
			if !seen[piece[i]] {
				seen[piece[i]] = true
				distinct++
			}
		}
		known := false
		_ = roll(strings.NewReader(piece), common, func(h uint64) {
			bits := allowedBits(h)
			known = known || f.allowed[bits[0]/64]&(1<<(bits[0]%64)) != 0 && f.allowed[bits[1]/64]&(1<<(bits[1]%64)) != 0
		})
		if distinct < minDistinct || known {
			continue
		}
		_ = roll(strings.NewReader(piece), window, func(h uint64) {
			f.of[h] = name
			f.filter[h>>48] |= 1 << (h >> 42 & 63)
		})
	}
}

// find calls found with the name of each text of which there is a piece.
func (f *fragments) find(in io.ByteReader, found func(name string)) error {
	return roll(in, window, func(h uint64) {
		if f.filter[h>>48]&(1<<(h>>42&63)) == 0 {
			return
		}
		if name, ok := f.of[h]; ok {
			found(name)
		}
	})
}

// roll calls do with the hash of each size bytes in a row, size at most window.
func roll(in io.ByteReader, size int, do func(h uint64)) error {
	var ring [window]byte
	var h uint64
	power := uint64(1) // hashBase to the size-th: what the byte that leaves has become
	for range size {
		power *= hashBase
	}
	for n := 0; ; n++ {
		b, err := in.ReadByte()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		h = h*hashBase + uint64(b) + 1
		if n >= size {
			h -= power * (uint64(ring[n%size]) + 1)
		}
		ring[n%size] = b
		if n+1 >= size {
			do(h)
		}
	}
}

// findInFolder looks into all files below a folder, byte by byte, whatever they are: it sees what is written as it is.
// It does not see inside compressed or encrypted data, nor a text that is cut into pieces shorter than a window. It
// leaves out the archive.
func (f *fragments) findInFolder(dir string, found func(file, name string)) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && entry.Name() == chat.ArchiveFolder {
			return fs.SkipDir
		}
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		return f.find(bufio.NewReaderSize(file, 1<<20), func(name string) { found(path, name) })
	})
}
