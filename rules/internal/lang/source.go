package lang

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/chat-recall/recall/internal/hclfile"
)

const (
	// MaxFileBytes bounds one rule file. Like MaxTotalBytes it is far above what people write, and low enough to refuse
	// the most hostile file within a second.
	MaxFileBytes = hclfile.MaxFileBytes
	// MaxTotalBytes bounds all files of one policy.
	MaxTotalBytes = 1 << 20
	// MaxFiles bounds the files of one policy.
	MaxFiles = 256
)

const (
	ruleSuffix = ".hcl"
	// TestSuffix is how the name of a file with tests of a policy ends.
	TestSuffix = ".test.hcl"
)

// ReadSources reads the rule files named by paths; of a directory every *.hcl that is not *.test.hcl, in name order. It
// skips names that start with a dot, which editors and ConfigMaps use for their own files.
func ReadSources(paths []string, r *Reporter) []hclfile.File {
	names := ruleFiles(paths, IsRuleFile, r)
	for _, name := range names {
		if strings.HasSuffix(name, TestSuffix) {
			r.Errorf(hcl.Range{Filename: name}, "Run it with recall-plugin test.", "is a test file, not a rule file")
		}
	}
	if len(names) == 0 && !r.HasErrors() {
		r.Errorf(hcl.Range{}, "Name a rule file or a directory that contains one.", "no rule file was named")
	}
	return ReadFiles(names, r)
}

// IsRuleFile reports whether a file of a directory is a rule file.
func IsRuleFile(name string) bool {
	return strings.HasSuffix(name, ruleSuffix) && !strings.HasSuffix(name, TestSuffix) && !strings.HasPrefix(name, ".")
}

// IsTestFile reports whether a file of a directory is a test file.
func IsTestFile(name string) bool {
	return strings.HasSuffix(name, TestSuffix) && !strings.HasPrefix(name, ".")
}

// looksLikeRules reports whether a file could be mistaken for a rule file, such as HOLD.HCL or a.hcl.json. Backups of
// editors and package managers are no mistake, nor are files that are marked as disabled.
func looksLikeRules(name string) bool {
	lower := strings.ToLower(strings.TrimSpace(name))
	if strings.HasPrefix(name, ".") || IsRuleFile(name) || IsTestFile(name) {
		return false
	}
	if strings.HasSuffix(lower, ruleSuffix) {
		return true
	}
	_, more, is := strings.Cut(lower, ruleSuffix+".")
	return is && !slices.Contains(leftovers, filepath.Ext("." + more)[1:])
}

// leftovers are extensions, after .hcl, of backups and disabled files.
var leftovers = []string{
	"bak", "backup", "save", "old", "orig", "rej", "new", "tmp", "temp", "swp", "swo", "part", "lock",
	"dpkg-dist", "dpkg-new", "dpkg-old", "rpmnew", "rpmorig", "rpmsave",
	"disabled", "off", "example", "sample", "dist", "md", "sha256", "sig", "asc", "golden",
}

// ruleFiles returns the files that paths name; of a directory those that match.
func ruleFiles(paths []string, match func(name string) bool, r *Reporter) []string {
	var names []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			r.FileError(path, "", err)
			continue
		}
		if !info.IsDir() {
			names = append(names, path)
			continue
		}
		entries, err := os.ReadDir(path) // in name order
		if err != nil {
			r.FileError(path, "", err)
			continue
		}
		found := false
		for _, e := range entries {
			name := filepath.Join(path, e.Name())
			if match(e.Name()) {
				names = append(names, name)
				found = true
			} else if looksLikeRules(e.Name()) {
				r.Warnf(hcl.Range{Filename: name},
					"Only names that end in .hcl, in lower case, are rule files. Rename the file or move it away.",
					"this file is skipped")
			}
		}
		if !found {
			r.Errorf(hcl.Range{Filename: path},
				"A directory of rules needs at least one file *.hcl. Subdirectories are not searched.",
				"no rule file in this directory")
		}
	}
	return names
}

// ReadFiles reads files and reports those that cannot be read, or are too many or too large.
func ReadFiles(names []string, r *Reporter) []hclfile.File {
	if len(names) > MaxFiles {
		r.Errorf(hcl.Range{}, "Merge some of them.", "%d rule files, but a policy has at most %d", len(names), MaxFiles)
		return nil
	}
	var out []hclfile.File
	total := 0
	for _, name := range names {
		text, err := hclfile.Read(name, MaxFileBytes)
		if err != nil {
			r.FileError(name, "", err)
			continue
		}
		if total += len(text); total > MaxTotalBytes {
			r.Errorf(hcl.Range{Filename: name}, "Split the policy, or remove files that do not belong to it.",
				"the rule files exceed %d KiB in total", MaxTotalBytes>>10)
			return nil
		}
		out = append(out, hclfile.File{Name: name, Text: text})
	}
	return out
}

// Digest returns the SHA-256 of the base names and texts of the files, in their order and in hex. The same files in
// another directory are the same policy.
func Digest(sources []hclfile.File) string {
	h := sha256.New()
	for _, s := range sources {
		name := filepath.Base(s.Name)
		fmt.Fprintf(h, "%d %s %d ", len(name), name, len(s.Text))
		h.Write(s.Text)
	}
	return hex.EncodeToString(h.Sum(nil))
}
