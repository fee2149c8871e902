package adapter

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

const (
	spoolPage  = 500
	spoolTitle = "recall-spool "
)

// Spool keeps facts of messages on disk until they are indexed, for a platform that nobody can read them from later.
// Its Read is that of a [Follower]. A folder has one Spool.
type Spool struct {
	dir string
	log hclog.Logger

	mu         sync.Mutex
	file       *os.File
	generation uint64 // of the file, in its first line: a cursor is valid in one
	start      int64  // after the first line
	size       int64
	handled    int64 // up to where it is
	given      int64 // up to where Read has read
	broken     error // a write failed and could not be undone
}

// OpenSpool opens a spool in a folder of its own, which it makes. What a crash left of a line that was not yet
// acknowledged is moved to the file "damaged".
func OpenSpool(dir string, log hclog.Logger) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &Spool{dir: dir, log: log}
	err := s.open()
	if errors.Is(err, os.ErrNotExist) {
		err = s.begin(1)
	}
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	return s, nil
}

func (s *Spool) path() string { return filepath.Join(s.dir, "spool") }

func (s *Spool) open() error {
	text, err := os.ReadFile(s.path())
	if err != nil {
		return err
	}
	title, rest, ok := bytes.Cut(text, []byte("\n"))
	number, isSpool := bytes.CutPrefix(title, []byte(spoolTitle))
	generation, err := strconv.ParseUint(string(number), 10, 64)
	if !ok || !isSpool || err != nil {
		return fmt.Errorf("%s does not begin with %q and a number: it is damaged, or no spool; move it away", s.path(),
			spoolTitle)
	}
	s.generation, s.start = generation, int64(len(title)+1)
	end := s.start + int64(bytes.LastIndexByte(rest, '\n')+1)
	if torn := text[end:]; len(torn) > 0 {
		if err := s.setAside(torn, end); err != nil {
			return err
		}
	}
	if s.file, err = os.OpenFile(s.path(), os.O_RDWR, 0); err != nil {
		return err
	}
	s.size, s.handled, s.given = end, s.start, s.start
	return s.file.Truncate(end)
}

// begin starts an empty file in the place of the one that there is.
func (s *Spool) begin(generation uint64) error {
	title := fmt.Sprintf("%s%d\n", spoolTitle, generation)
	if err := replaceFile(s.path(), []byte(title)); err != nil {
		return err
	}
	file, err := os.OpenFile(s.path(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if s.file != nil {
		_ = s.file.Close() // of what is handled
	}
	s.file, s.generation, s.start = file, generation, int64(len(title))
	s.size, s.handled, s.given = s.start, s.start, s.start
	return nil
}

// Close closes the file.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = os.ErrClosed
	return s.file.Close()
}

// Empty tells whether everything that was added is handled.
func (s *Spool) Empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handled >= s.size
}

// Add appends messages. When it returns without an error they are on disk.
func (s *Spool) Add(msgs ...shared.Message) error {
	var text bytes.Buffer
	for _, m := range msgs {
		line, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		fmt.Fprintf(&text, "%08x %s\n", crc32.ChecksumIEEE(line), line)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return fmt.Errorf("spool: %w", s.broken)
	}
	_, err := s.file.WriteAt(text.Bytes(), s.size)
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		if undo := s.file.Truncate(s.size); undo != nil {
			s.broken = errors.Join(err, undo)
		}
		return fmt.Errorf("spool: %w", err)
	}
	s.size += int64(text.Len())
	return nil
}

// Read implements the Read of a [Follower]. A line that is damaged is moved to the file "damaged" in the folder, and
// logged.
func (s *Spool) Read(_ context.Context, after string) (Page[shared.Message], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var page Page[shared.Message]
	if s.broken != nil {
		return page, s.broken
	}
	s.handled = s.start
	if generation, offset, _ := strings.Cut(after, ":"); generation == strconv.FormatUint(s.generation, 10) {
		n, err := strconv.ParseInt(offset, 10, 64)
		if err != nil || n < s.start || n > s.size {
			return page, fmt.Errorf("cursor %q is not in the spool %s, which ends at %d", after, s.path(), s.size)
		}
		s.handled = n
	}
	at := s.handled
	lines := bufio.NewReader(io.NewSectionReader(s.file, at, s.size-at))
	for range spoolPage {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return page, err
		}
		if m, ok := parseLine(line); ok {
			page.Items = append(page.Items, m)
		} else if err := s.setAside(line, at); err != nil {
			return page, err
		}
		at += int64(len(line))
	}
	s.given = at
	page.Next, page.More = fmt.Sprintf("%d:%d", s.generation, at), at < s.size
	return page, nil
}

// Handled says that what Read gave last is handled. Once everything is, the file starts anew.
func (s *Spool) Handled() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handled = s.given
	if s.broken != nil || s.handled < s.size {
		return s.broken
	}
	return s.begin(s.generation + 1)
}

func parseLine(line []byte) (m shared.Message, ok bool) {
	sum, text, found := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if !found || err != nil || uint32(want) != crc32.ChecksumIEEE(text) {
		return m, false
	}
	return m, json.Unmarshal(text, &m) == nil
}

// setAside keeps what cannot be read.
func (s *Spool) setAside(line []byte, at int64) error {
	name := filepath.Join(s.dir, "damaged")
	s.log.Error("a line of the spool is damaged; its message is not indexed, and cannot be recalled unless the platform "+
		"tells its facts", "spool", s.path(), "at", at, "kept_in", name)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(bytes.TrimSuffix(line, []byte("\n")), '\n'))
	return errors.Join(err, f.Sync(), f.Close())
}
