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
	"sync"
	"syscall"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

const (
	// MaxSpoolBytes bounds a spool: some millions of messages.
	MaxSpoolBytes = 1 << 30

	pageBytes = 1 << 20 // of a page, unless one message is larger
	pageItems = 500
)

// The first line of a spool says up to where it is handled. It always has the same length, so that it is written in
// place, also on a full disk.
const (
	titleFormat = "recall spool, handled up to %016d, %08x\n"
	titleBytes  = int64(len("recall spool, handled up to 0000000000000000, 00000000\n"))
)

// Spool keeps facts of messages on disk until they are indexed, for a platform that nobody can read them from later.
// Its Read is that of a [Follower]. It belongs to one process at a time. Each line has a checksum: damage costs the
// lines that it hit alone, and those are kept in the file "damaged" beside it.
type Spool struct {
	path string
	log  hclog.Logger
	lock *os.File // the folder

	mu      sync.Mutex
	file    *os.File
	size    int64
	handled int64  // up to where it is
	given   int64  // up to where Read has read
	damaged []byte // lines between handled and given
}

// OpenSpool opens the spool in a folder of its own, which it makes.
func OpenSpool(dir string, log hclog.Logger) (*Spool, error) {
	s := &Spool{path: filepath.Join(dir, "spool"), log: orNone(log)}
	if err := s.open(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("open the spool %s: %w", s.path, err), s.Close())
	}
	return s, nil
}

func (s *Spool) open(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := syncFolder(filepath.Dir(dir)); err != nil {
		return err
	}
	var err error
	if s.lock, err = os.Open(dir); err != nil {
		return err
	}
	if err := syscall.Flock(int(s.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("another process uses the folder: give each its own: %w", err)
	}
	if s.file, err = os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	if s.size = info.Size(); s.size == 0 { // a new one
		if err := s.setHandled(titleBytes); err != nil {
			return err
		}
		s.size = titleBytes
		return syncFolder(dir)
	}
	return s.recover()
}

// recover finds out what a crash left.
func (s *Spool) recover() error {
	title := make([]byte, titleBytes)
	n, err := s.file.ReadAt(title, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !bytes.HasPrefix([]byte(titleFormat), title[:min(n, 12)]) {
		return errors.New("the file is no spool: move it away")
	}
	var sum uint32
	s.handled = titleBytes
	if _, err := fmt.Sscanf(string(title), titleFormat, &s.handled, &sum); err != nil || sum != sumOf(s.handled) {
		s.log.Warn("the first line of the spool is damaged; all that is in it is indexed again", "spool", s.path)
		s.handled = titleBytes // what is indexed twice changes nothing
	}
	end, err := s.lastLine()
	if err != nil {
		return err
	}
	if end < s.size { // it was not acknowledged, unless its end is damaged
		torn := make([]byte, min(s.size-end, pageBytes))
		if _, err := s.file.ReadAt(torn, end); err != nil {
			return err
		}
		s.setAside(torn)
	}
	s.size, s.handled = end, min(max(s.handled, titleBytes), end)
	s.given = s.handled
	// First the place and then the length: after a crash in between, messages are indexed again, and none is left out.
	if err := s.setHandled(s.handled); err != nil {
		return err
	}
	return errors.Join(s.file.Truncate(end), s.file.Sync())
}

// lastLine is where the last whole line ends.
func (s *Spool) lastLine() (int64, error) {
	buffer := make([]byte, 64<<10)
	for end := s.size; end > titleBytes; {
		from := max(titleBytes, end-int64(len(buffer)))
		part := buffer[:end-from]
		if _, err := s.file.ReadAt(part, from); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		end = from
	}
	return titleBytes, nil
}

func sumOf(place int64) uint32 { return crc32.ChecksumIEEE(strconv.AppendInt(nil, place, 10)) }

// setHandled writes the first line.
func (s *Spool) setHandled(place int64) error {
	s.handled, s.given = place, place
	_, err := s.file.WriteAt(fmt.Appendf(nil, titleFormat, place, sumOf(place)), 0)
	return errors.Join(err, s.file.Sync())
}

// Close closes the spool. What is in it stays on disk.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.file != nil {
		err = s.file.Close()
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}

// Empty tells whether everything that was added is handled.
func (s *Spool) Empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handled >= s.size
}

// Add appends messages. When it returns without an error they are on disk; else none of them is in the spool.
func (s *Spool) Add(msgs ...shared.Message) error {
	var text bytes.Buffer
	for i, m := range msgs {
		if field := notText(m); field != "" { // JSON would make one id of two
			return shared.Invalidf(fmt.Sprintf("messages[%d].%s", i, field), "is not valid UTF-8")
		}
		line, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		fmt.Fprintf(&text, "%08x %s\n", crc32.ChecksumIEEE(line), line)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size+int64(text.Len()) > MaxSpoolBytes {
		return fmt.Errorf("the spool %s is full: %d bytes wait to be indexed, at most %d", s.path, s.size, MaxSpoolBytes)
	}
	// What a failed Add left behind size is cut off, or else written over.
	if err := s.file.Truncate(s.size); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	_, err := s.file.WriteAt(text.Bytes(), s.size)
	if err = errors.Join(err, s.file.Sync()); err != nil {
		return errors.Join(fmt.Errorf("spool: %w", err), s.file.Truncate(s.size))
	}
	s.size += int64(text.Len())
	return nil
}

// notText is a field of a message that is not UTF-8.
func notText(m shared.Message) string {
	fields := map[string]string{"id": m.ID, "conversation.id": m.Conversation.ID, "sender": m.Sender, "ref": m.Ref,
		"type": string(m.Type), "conversation.type": string(m.Conversation.Type), "tenant": m.Tenant}
	for i, at := range m.Attachments {
		fields[fmt.Sprintf("attachments[%d].key", i)], fields[fmt.Sprintf("attachments[%d].owner", i)] = at.Key, at.Owner
	}
	for i, label := range m.Labels {
		fields[fmt.Sprintf("labels[%d]", i)] = label
	}
	for name, text := range fields {
		if !utf8.ValidString(text) {
			return name
		}
	}
	return ""
}

// Read implements the Read of a [Follower] without a cursor: it begins with what is not handled.
func (s *Spool) Read(_ context.Context, after string) (Page[shared.Message], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var page Page[shared.Message]
	if after == "" {
		s.given, s.damaged = s.handled, nil
	}
	lines := bufio.NewReader(io.NewSectionReader(s.file, s.given, s.size-s.given))
	for from := s.given; len(page.Items) < pageItems && s.given-from < pageBytes; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return page, fmt.Errorf("spool: %w", err)
		}
		if m, ok := parseLine(line); ok {
			page.Items = append(page.Items, m)
		} else {
			s.damaged = append(s.damaged, line...)
		}
		s.given += int64(len(line))
	}
	page.Next, page.More = strconv.FormatInt(s.given, 10), s.given < s.size
	return page, nil
}

// Handled says that what Read gave is handled. Once everything is, the file is emptied.
func (s *Spool) Handled() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.damaged) > 0 {
		s.setAside(s.damaged)
		s.damaged = nil
	}
	if s.given < s.size {
		return s.setHandled(s.given)
	}
	// First the place and then the length, as in recover.
	if err := s.setHandled(titleBytes); err != nil {
		return err
	}
	s.size = titleBytes
	return errors.Join(s.file.Truncate(titleBytes), s.file.Sync())
}

func parseLine(line []byte) (m shared.Message, ok bool) {
	sum, text, found := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if !found || err != nil || uint32(want) != crc32.ChecksumIEEE(text) {
		return m, false
	}
	return m, json.Unmarshal(text, &m) == nil
}

// setAside keeps lines that cannot be read, if there is room for them.
func (s *Spool) setAside(lines []byte) {
	name := filepath.Join(filepath.Dir(s.path), "damaged")
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err == nil {
		_, err = f.Write(append(bytes.TrimSuffix(lines, []byte("\n")), '\n'))
		err = errors.Join(err, f.Sync(), f.Close())
	}
	s.log.Error("lines of the spool are damaged; their messages are not indexed, and can be recalled only if the "+
		"platform tells their facts", "spool", s.path, "kept_in", name, "kept", err == nil,
		"lines", string(lines[:min(len(lines), 4096)]))
}
