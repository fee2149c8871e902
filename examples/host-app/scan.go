package main

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	// window is how many bytes of a text must be found together to be taken for that text.
	window = 16

	// stride is from one window of a text to the next, so any window+stride-1 bytes of it in a row are found.
	stride = 8

	// minDistinct bytes make a window a piece of text and not a line of dashes or an empty page.
	minDistinct = 6

	hashBase = 0x9E3779B97F4A7C15
)

// fragments is a set of pieces of texts to look for in files, found by a rolling hash.
type fragments struct {
	of     map[uint64]string // the hash of a window → the name of its text
	filter [1 << 16]uint64   // a bit for each hash, to pass over most bytes without looking into the map
	power  uint64            // hashBase to the window-th
}

func newFragments() *fragments {
	f := &fragments{of: make(map[uint64]string), power: 1}
	for range window {
		f.power *= hashBase
	}
	return f
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
	for ; len(text) >= window; text = text[min(stride, len(text)):] {
		var seen [256]bool
		distinct := 0
		var h uint64
		for i := range window {
			h = h*hashBase + uint64(text[i]) + 1
			if !seen[text[i]] {
				seen[text[i]] = true
				distinct++
			}
		}
		if distinct >= minDistinct {
			f.of[h] = name
			f.filter[h>>48] |= 1 << (h >> 42 & 63)
		}
	}
}

// allow stops looking for what is also in this text.
func (f *fragments) allow(text string) {
	_ = f.each(strings.NewReader(text), func(h uint64) { delete(f.of, h) }) // a string cannot fail to be read
}

// find calls found with the name of each text of which there is a piece.
func (f *fragments) find(in io.ByteReader, found func(name string)) error {
	return f.each(in, func(h uint64) { found(f.of[h]) })
}

// each calls do for each window that is in the set.
func (f *fragments) each(in io.ByteReader, do func(h uint64)) error {
	var ring [window]byte
	var h uint64
	for n := 0; ; n++ {
		b, err := in.ReadByte()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		h = h*hashBase + uint64(b) + 1
		if n >= window {
			h -= f.power * (uint64(ring[n%window]) + 1)
		}
		ring[n%window] = b
		if n+1 >= window && f.filter[h>>48]&(1<<(h>>42&63)) != 0 {
			if _, ok := f.of[h]; ok {
				do(h)
			}
		}
	}
}

// findInFolder looks into all files below a folder, byte by byte, whatever they are: it sees what is written as it is. It
// does not see inside compressed or encrypted data, nor a text that is cut into pieces shorter than a window.
func (f *fragments) findInFolder(dir string, found func(file, name string)) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
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
