package chat

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/chat-recall/recall/shared"
)

// User is who sends and receives.
type User struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Member is one user of a conversation.
type Member struct {
	User    string      `json:"user"`
	Name    string      `json:"name"`
	Role    shared.Role `json:"role"`
	joined  int64       // the last message before the user joined
	roaming bool
}

// memberCache holds who is in which conversation, so that a message does not read its receivers from disk.
type memberCache struct {
	sync.RWMutex
	roaming map[string]bool   // every user; true: keeps a roaming log
	names   map[string]string // of every user, as others are shown it
	titles  map[shared.Conversation]string
	rooms   map[shared.Conversation]map[string]*Member  // by user
	byUser  map[string]map[shared.Conversation]struct{} // where a user is a member
	lists   map[shared.Conversation][]Member            // rooms as a list, made when asked for
}

// roomKey names a conversation in the database.
func roomKey(c shared.Conversation) string { return string(c.Type) + "/" + c.ID }

// parseRoom is the conversation that roomKey named.
func parseRoom(key string) shared.Conversation {
	kind, id, _ := strings.Cut(key, "/")
	return shared.Conversation{Type: shared.ConversationType(kind), ID: id}
}

func (s *Store) loadMembers() error {
	c := &s.members
	c.roaming = make(map[string]bool)
	c.names = make(map[string]string)
	c.titles = make(map[shared.Conversation]string)
	c.rooms = make(map[shared.Conversation]map[string]*Member)
	c.byUser = make(map[string]map[shared.Conversation]struct{})
	c.lists = make(map[shared.Conversation][]Member)
	rows, err := s.read.Query("SELECT id, name, roaming FROM users")
	if err != nil {
		return fmt.Errorf("read the users: %w", err)
	}
	if _, err := scanAll(rows, func(r *sql.Rows) (struct{}, error) {
		var id, name string
		var roaming bool
		err := r.Scan(&id, &name, &roaming)
		c.roaming[id], c.names[id] = roaming, name
		return struct{}{}, err
	}); err != nil {
		return err
	}
	if rows, err = s.read.Query("SELECT conversation, title FROM conversations"); err != nil {
		return fmt.Errorf("read the conversations: %w", err)
	}
	if _, err := scanAll(rows, func(r *sql.Rows) (struct{}, error) {
		var key, title string
		err := r.Scan(&key, &title)
		c.rooms[parseRoom(key)], c.titles[parseRoom(key)] = make(map[string]*Member), title
		return struct{}{}, err
	}); err != nil {
		return err
	}
	if rows, err = s.read.Query("SELECT conversation, user, role, joined FROM members"); err != nil {
		return fmt.Errorf("read the members: %w", err)
	}
	_, err = scanAll(rows, func(r *sql.Rows) (struct{}, error) {
		var key string
		var m Member
		err := r.Scan(&key, &m.User, &m.Role, &m.joined)
		m.Name, m.roaming = c.names[m.User], c.roaming[m.User]
		c.put(parseRoom(key), m)
		return struct{}{}, err
	})
	return err
}

// put records a member. The lock is held.
func (c *memberCache) put(room shared.Conversation, m Member) {
	if c.rooms[room] == nil {
		c.rooms[room] = make(map[string]*Member)
	}
	c.rooms[room][m.User] = &m
	if c.byUser[m.User] == nil {
		c.byUser[m.User] = make(map[shared.Conversation]struct{})
	}
	c.byUser[m.User][room] = struct{}{}
	delete(c.lists, room)
}

// AddUser makes a user, once.
func (s *Store) AddUser(ctx context.Context, id, name string, roaming bool) error {
	s.members.RLock()
	_, known := s.members.roaming[id]
	s.members.RUnlock()
	if known {
		return nil
	}
	err := s.apply(ctx, func(tx *writeTx) error {
		return tx.exec("INSERT INTO users (id, name, roaming) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", id, name, roaming)
	})
	if err != nil {
		return fmt.Errorf("add user: %w", err)
	}
	s.members.Lock()
	defer s.members.Unlock()
	s.members.roaming[id], s.members.names[id] = roaming, name
	return nil
}

// AddConversation makes a conversation, once.
func (s *Store) AddConversation(ctx context.Context, room shared.Conversation, title string) error {
	s.members.RLock()
	_, known := s.members.rooms[room]
	s.members.RUnlock()
	if known {
		return nil
	}
	err := s.apply(ctx, func(tx *writeTx) error {
		return tx.exec("INSERT INTO conversations (conversation, title) VALUES (?, ?) ON CONFLICT DO NOTHING", roomKey(room),
			title)
	})
	if err != nil {
		return fmt.Errorf("add conversation: %w", err)
	}
	s.members.Lock()
	defer s.members.Unlock()
	if s.members.rooms[room] == nil {
		s.members.rooms[room], s.members.titles[room] = make(map[string]*Member), title
	}
	return nil
}

// SetRole makes a user a member of a conversation with this role, or changes the role of one who is.
func (s *Store) SetRole(ctx context.Context, room shared.Conversation, user string, role shared.Role) error {
	if m, ok := s.Member(room, user); ok && m.Role == role {
		return nil
	}
	m := Member{User: user, Role: role}
	err := s.apply(ctx, func(tx *writeTx) error {
		err := tx.exec(`INSERT INTO members (conversation, user, role, joined)
			VALUES (?, ?, ?, (SELECT COALESCE(MAX(seq), 0) FROM messages))
			ON CONFLICT DO UPDATE SET role = excluded.role`, roomKey(room), user, role)
		if err != nil {
			return err
		}
		_, err = tx.row("SELECT joined FROM members WHERE conversation = ? AND user = ?", []any{roomKey(room), user},
			&m.joined)
		return err
	})
	if err != nil {
		return fmt.Errorf("set role: %w", err)
	}
	s.members.Lock()
	defer s.members.Unlock()
	m.Name, m.roaming = s.members.names[user], s.members.roaming[user]
	s.members.put(room, m)
	return nil
}

// UserExists tells whether there is such a user.
func (s *Store) UserExists(id string) bool {
	s.members.RLock()
	defer s.members.RUnlock()
	_, ok := s.members.roaming[id]
	return ok
}

// Users lists every user, by id.
func (s *Store) Users() []User {
	s.members.RLock()
	defer s.members.RUnlock()
	list := make([]User, 0, len(s.members.names))
	for id, name := range s.members.names {
		list = append(list, User{id, name})
	}
	slices.SortFunc(list, func(a, b User) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// Title is what a conversation is called.
func (s *Store) Title(room shared.Conversation) string {
	s.members.RLock()
	defer s.members.RUnlock()
	return s.members.titles[room]
}

// Rooms lists every conversation, by name.
func (s *Store) Rooms() []shared.Conversation {
	s.members.RLock()
	defer s.members.RUnlock()
	list := slices.Collect(maps.Keys(s.members.rooms))
	slices.SortFunc(list, func(a, b shared.Conversation) int { return strings.Compare(roomKey(a), roomKey(b)) })
	return list
}

// Member tells what a user is in a conversation.
func (s *Store) Member(room shared.Conversation, user string) (Member, bool) {
	s.members.RLock()
	defer s.members.RUnlock()
	if m := s.members.rooms[room][user]; m != nil {
		return *m, true
	}
	return Member{}, false
}

// Members lists who is in a conversation, by name. The list is shared: do not change it.
func (s *Store) Members(room shared.Conversation) []Member {
	s.members.RLock()
	list, ok := s.members.lists[room]
	s.members.RUnlock()
	if ok {
		return list
	}
	s.members.Lock()
	defer s.members.Unlock()
	list = make([]Member, 0, len(s.members.rooms[room]))
	for _, m := range s.members.rooms[room] {
		list = append(list, *m)
	}
	slices.SortFunc(list, func(a, b Member) int { return strings.Compare(a.User, b.User) })
	s.members.lists[room] = list
	return list
}

// RoomsOf lists the conversations of a user, by name.
func (s *Store) RoomsOf(user string) []shared.Conversation {
	s.members.RLock()
	defer s.members.RUnlock()
	list := make([]shared.Conversation, 0, len(s.members.byUser[user]))
	for room := range s.members.byUser[user] {
		list = append(list, room)
	}
	slices.SortFunc(list, func(a, b shared.Conversation) int { return strings.Compare(roomKey(a), roomKey(b)) })
	return list
}
