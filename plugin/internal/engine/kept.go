package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/rules"
)

// The last good policy: while a policy is in force, a file next to the index holds a copy of its rule files. A start
// with broken rule files uses that copy, so that a typo and a restart do not take a chat down.

const (
	// keptSuffix is appended to the path of the index.
	keptSuffix = ".policy"
	// maxKeptBytes bounds the file. JSON encodes a byte of a rule file as at most six, and a policy has at most 1 MiB.
	maxKeptBytes = 8 << 20
)

// keptPolicy is the content of the file, after a first line with its SHA-256.
type keptPolicy struct {
	Digest string     `json:"digest"` // of the policy; the files must have the same digest
	Files  []keptFile `json:"files"`
}

type keptFile struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// keptPath returns the path of the kept policy of the index at a path.
func keptPath(index string) string { return filepath.Clean(index) + keptSuffix }

// encodeKept returns the content of the file for a policy.
func encodeKept(p *rules.Policy) ([]byte, error) {
	kept := keptPolicy{Digest: p.Digest()}
	for _, f := range p.Files() {
		kept.Files = append(kept.Files, keptFile{f.Name, string(f.Text)})
	}
	body, err := json.MarshalIndent(kept, "", " ")
	if err != nil {
		return nil, err
	}
	return append([]byte(sumOf(body)+"\n"), body...), nil
}

func sumOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// readKept loads the policy from the file. The error is fs.ErrNotExist if none was kept.
func readKept(file string) (*rules.Policy, error) {
	data, err := hclfile.Read(file, maxKeptBytes)
	if err != nil {
		return nil, err
	}
	sum, body, _ := bytes.Cut(data, []byte("\n"))
	if sumOf(body) != string(sum) {
		return nil, fmt.Errorf("%s is damaged: its SHA-256 is not the one in its first line", file)
	}
	var kept keptPolicy
	if err := json.Unmarshal(body, &kept); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	files := make([]rules.File, len(kept.Files))
	for i, f := range kept.Files {
		files[i] = rules.File{Name: f.Name, Text: []byte(f.Text)}
	}
	p, diags := rules.ParseFiles(files)
	switch {
	case p == nil:
		return nil, fmt.Errorf("%s holds a policy that this plugin refuses: %s", file, diagnostics(diags)[0])
	case p.Digest() != kept.Digest:
		return nil, fmt.Errorf("%s holds the policy %s and says that it is %s", file, p.Digest(), kept.Digest)
	}
	return p, nil
}

// writeKept writes p to file, completely or not at all. It writes nothing if the file already holds p.
func writeKept(file string, p *rules.Policy) error {
	data, err := encodeKept(p)
	if err != nil {
		return err
	}
	if is, err := hclfile.Read(file, maxKeptBytes); err == nil && bytes.Equal(is, data) {
		return nil
	}
	next := file + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) { // left by a process that was killed here
		return err
	}
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(next, file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(next))
	}
	folder, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// keep keeps the policy in force for a start with broken rule files. It does nothing unless the engine is active: the
// policy that a standby has prepared is not in force yet.
func (e *Engine) keep() {
	e.keeping.Lock()
	defer e.keeping.Unlock()
	e.mu.Lock()
	a := e.active
	e.mu.Unlock()
	if a == nil {
		return
	}
	err := writeKept(a.kept, a.rules.Policy())
	if err != nil {
		e.logger.Error("the policy in force cannot be kept: a start with broken rule files would use an older one or fail",
			"file", a.kept, "error", err)
	}
	e.mu.Lock()
	e.keepErr = err
	e.mu.Unlock()
}
