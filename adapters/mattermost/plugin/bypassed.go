package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/chat-recall/recall/shared"
)

// A bypass is a deletion by Mattermost's own means that the rules do not permit as a recall. Mattermost hides such a
// post, and keeps its text and its files.
type bypass struct {
	PostID    string    `json:"post_id"`
	ChannelID string    `json:"channel_id"`
	DeletedBy string    `json:"deleted_by,omitempty"` // a user or a plugin; empty: not known
	DeletedAt time.Time `json:"deleted_at"`

	// Result is the answer of the rules; without a status if the deleter is no user, or Problem says why there is none.
	Result  shared.RecallResult `json:"result,omitzero"`
	Problem string              `json:"problem,omitempty"`
}

// bypassLog is the list of all bypasses, oldest first, in a file with a line of JSON for each.
type bypassLog struct {
	mu     sync.Mutex
	file   *os.File
	size   int64
	list   []bypass
	listed map[string]bool // by post
}

// openBypassLog reads the file and makes it if it is missing. What a crash left of a last line is removed.
func openBypassLog(path string) (*bypassLog, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	l := &bypassLog{file: file, listed: map[string]bool{}}
	lines := bufio.NewReader(file)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if err != nil { // the end; what is there without a newline was never acknowledged
			return l, errors.Join(file.Truncate(l.size), syncFolder(path))
		}
		var b bypass
		if err := json.Unmarshal(line, &b); err != nil {
			return nil, errors.Join(fmt.Errorf("%s:%d is damaged: %w; move the file away to begin a new list", path, n, err),
				file.Close())
		}
		l.size += int64(len(line))
		l.list, l.listed[b.PostID] = append(l.list, b), true
	}
}

// add appends a bypass, unless the post is listed. When it returns without an error, the bypass is on disk.
func (l *bypassLog) add(b bypass) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listed[b.PostID] {
		return nil
	}
	line, err := json.Marshal(b)
	if err != nil {
		return err
	}
	line = append(bytes.TrimSpace(line), '\n')
	if _, err := l.file.WriteAt(line, l.size); err != nil {
		return err
	}
	if err := l.file.Sync(); err != nil {
		return err
	}
	l.size += int64(len(line))
	l.list, l.listed[b.PostID] = append(l.list, b), true
	return nil
}

// bypassPage is some of the list.
type bypassPage struct {
	Bypassed []bypass `json:"bypassed"`
	Next     int      `json:"next"` // after of the next request
	More     bool     `json:"more,omitempty"`
}

const maxBypassPage = 1000

// page returns at most limit bypasses after the first ones; 0 means maxBypassPage.
func (l *bypassLog) page(after, limit int) bypassPage {
	l.mu.Lock()
	defer l.mu.Unlock()
	if limit == 0 {
		limit = maxBypassPage
	}
	from := min(after, len(l.list))
	to := min(from+limit, len(l.list))
	return bypassPage{Bypassed: append([]bypass{}, l.list[from:to]...), Next: to, More: to < len(l.list)}
}

func (l *bypassLog) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.list)
}

func (l *bypassLog) close() error { return l.file.Close() }
