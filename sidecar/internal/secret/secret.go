// Package secret reads the files of bearer tokens and webhook secrets. Both are text with one value in each line. Blank
// lines, and lines that start with #, count for nothing.
package secret

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"

	"github.com/chat-recall/recall/internal/hclfile"
)

const (
	maxFileBytes = 64 << 10

	minTokenBytes = 16

	// The limits of Standard Webhooks, and the prefix of its symmetric secrets.
	minSecretBytes, maxSecretBytes = 24, 64
	secretPrefix                   = "whsec_"
	// maxSecrets bounds the signatures in the header of a webhook. Two are enough to replace a secret.
	maxSecrets = 16
)

// File is a file of values. Its methods may be called concurrently.
type File struct {
	path   string
	parse  func(line []byte) ([]byte, error)
	most   int // values; a file of tokens is bounded by its size
	values atomic.Pointer[values]
}

// values are the values of a file that was read.
type values struct {
	all    [][]byte
	hashes [][sha256.Size]byte // of all
}

// Tokens returns a file of bearer tokens, of at least 16 bytes of visible ASCII each. [File.Read] reads it.
func Tokens(path string) *File {
	return &File{path: path, parse: parseToken, most: maxFileBytes}
}

// WebhookSecrets returns a file of at most 16 secrets of Standard Webhooks: whsec_ and the base64 of 24 to 64 bytes,
// which are the value. [File.Read] reads it.
func WebhookSecrets(path string) *File {
	return &File{path: path, parse: parseSecret, most: maxSecrets}
}

// Read reads the file, also again. If it fails, the values of the last Read that succeeded stay in force. The file must
// be a regular file of at most 64 KiB with at least one value. Its group may read it; others may have no access. Errors
// name the file and the line, and never quote a value.
func (f *File) Read() error {
	text, err := hclfile.ReadIf(f.path, maxFileBytes, private)
	if err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return fmt.Errorf("%s cannot be read: %w", f.path, err)
	}
	read := &values{}
	number := 0
	for line := range bytes.Lines(text) {
		number++
		line = bytes.Trim(line, " \t\r\n")
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		value, err := f.parse(line)
		if err == nil && len(read.all) == f.most {
			err = fmt.Errorf("there are more than %d values", f.most)
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", f.path, number, err)
		}
		read.all, read.hashes = append(read.all, value), append(read.hashes, sha256.Sum256(value))
	}
	if len(read.all) == 0 {
		return fmt.Errorf("%s is empty: write one value in each line", f.path)
	}
	f.values.Store(read)
	return nil
}

// private refuses a file that too many users can access.
func private(info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&0o027 != 0 {
		return fmt.Errorf("its mode %04o gives others access, or lets its group write: chmod 600", mode)
	}
	return nil
}

// Values returns the values in force, in the order of the file; none before the first Read. They must not be modified.
func (f *File) Values() [][]byte {
	if read := f.values.Load(); read != nil {
		return read.all
	}
	return nil
}

// Match reports whether token is one of the values in force. The time it takes tells nothing about them but their
// number.
func (f *File) Match(token []byte) bool {
	read := f.values.Load()
	if read == nil {
		return false
	}
	hash, found := sha256.Sum256(token), 0
	for i := range read.hashes {
		found |= subtle.ConstantTimeCompare(hash[:], read.hashes[i][:])
	}
	return found == 1
}

func parseToken(line []byte) ([]byte, error) {
	if bytes.ContainsFunc(line, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("a token is visible ASCII, without spaces")
	}
	if len(line) < minTokenBytes {
		return nil, fmt.Errorf("a token has %d bytes or more; for example as openssl rand -hex 32 prints it", minTokenBytes)
	}
	return bytes.Clone(line), nil
}

func parseSecret(line []byte) ([]byte, error) {
	code, ok := bytes.CutPrefix(line, []byte(secretPrefix))
	secret, err := base64.StdEncoding.Strict().AppendDecode(nil, code)
	broken := bytes.ContainsRune(code, '\r') // the decoder skips it
	if !ok || err != nil || broken || len(secret) < minSecretBytes || len(secret) > maxSecretBytes {
		return nil, fmt.Errorf(`a secret is %s and the base64 of %d to %d bytes; for example as `+
			`echo "whsec_$(openssl rand -base64 32)" prints it`, secretPrefix, minSecretBytes, maxSecretBytes)
	}
	return secret, nil
}
