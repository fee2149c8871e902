package rules

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
)

const (
	// maxFileBytes bounds one rule file, and maxTotalBytes all files of one policy: far above what people write,
	// and low enough that the most hostile file is refused within a second.
	maxFileBytes  = 256 << 10
	maxTotalBytes = 1 << 20
	// maxFiles bounds the files of one policy.
	maxFiles = 256
)

const (
	ruleSuffix = ".hcl"
	testSuffix = ".test.hcl"
)

// A File is one file as it was read.
type File struct {
	Name string // as decisions and diagnostics call it
	Text []byte // not to be changed
}

// readSources reads the rule files named by paths, and of a directory every *.hcl that is not *.test.hcl, in name
// order. What starts with a dot is skipped: editors and ConfigMaps keep their own files there.
func readSources(paths []string, r *reporter) []File {
	names := ruleFiles(paths, isRuleFile, r)
	for _, name := range names {
		if strings.HasSuffix(name, testSuffix) {
			r.errorf(hcl.Range{Filename: name}, "Run it with recall-plugin test.", "is a test file, not a rule file")
		}
	}
	if len(names) == 0 && !r.hasErrors() {
		r.errorf(hcl.Range{}, "Name a rule file or a directory that holds one.", "no rule file was named")
	}
	return readFiles(names, r)
}

func isRuleFile(name string) bool {
	return strings.HasSuffix(name, ruleSuffix) && !strings.HasSuffix(name, testSuffix) && !strings.HasPrefix(name, ".")
}

func isTestFile(name string) bool {
	return strings.HasSuffix(name, testSuffix) && !strings.HasPrefix(name, ".")
}

// ruleFiles returns the files that paths name: a file as it is, of a directory those that match.
func ruleFiles(paths []string, match func(name string) bool, r *reporter) []string {
	var names []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			r.fileError(path, err)
			continue
		}
		if !info.IsDir() {
			names = append(names, path)
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			r.fileError(path, err)
			continue
		}
		found := false
		sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
		for _, e := range entries {
			if match(e.Name()) {
				names = append(names, filepath.Join(path, e.Name()))
				found = true
			}
		}
		if !found {
			r.errorf(hcl.Range{Filename: path}, "A directory of rules holds at least one file *.hcl; subdirectories are not searched.",
				"no rule file in this directory")
		}
	}
	return names
}

func readFiles(names []string, r *reporter) []File {
	if len(names) > maxFiles {
		r.errorf(hcl.Range{}, "Join some of them.", "%d rule files, of which a policy may have %d", len(names), maxFiles)
		return nil
	}
	var out []File
	total := 0
	for _, name := range names {
		text, err := readFile(name)
		if err != nil {
			r.fileError(name, err)
			continue
		}
		if total += len(text); total > maxTotalBytes {
			r.errorf(hcl.Range{Filename: name}, "Split what does not belong together.",
				"the rule files have more than %d KiB together", maxTotalBytes>>10)
			return nil
		}
		out = append(out, File{name, text})
	}
	return out
}

// readFile reads one regular file of at most maxFileBytes. It opens without blocking, so that a FIFO in the place of
// a rule file is refused instead of waited for. The name goes with every decision that the file makes, so it has to be
// text, which a name in a directory need not be.
func readFile(name string) ([]byte, error) {
	if !utf8.ValidString(name) {
		return nil, errors.New("its name is not valid UTF-8; rename it")
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("is %s, not a regular file", kindOf(info.Mode()))
	}
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("is %s, not a regular file", kindOf(info.Mode()))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFileBytes {
		return nil, fmt.Errorf("has more than %d KiB, the limit of a rule file", maxFileBytes>>10)
	}
	return text, nil
}

func kindOf(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	default:
		return "a device"
	}
}

func (r *reporter) fileError(name string, err error) {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	r.errorf(hcl.Range{Filename: name}, "", "cannot be read: %v", err)
}

// digest is the SHA-256 over the base names and texts of the files in their order, in hex: the same files in another
// place are the same policy.
func digest(sources []File) string {
	h := sha256.New()
	for _, s := range sources {
		name := filepath.Base(s.Name)
		fmt.Fprintf(h, "%d %s %d ", len(name), name, len(s.Text))
		h.Write(s.Text)
	}
	return hex.EncodeToString(h.Sum(nil))
}
