package chat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

// demoAuditor is the demo account of compliance.
const demoAuditor = "vera"

// addDemo makes the demo users and conversations, once.
func addDemo(ctx context.Context, s *Server) error {
	for _, user := range []string{"ann", "ben", "cleo", "dan"} {
		if err := s.store.AddUser(ctx, user, strings.ToUpper(user[:1])+user[1:], true); err != nil {
			return err
		}
	}
	if err := s.store.AddAuditor(ctx, demoAuditor); err != nil {
		return err
	}
	for _, c := range []struct {
		room    shared.Conversation
		title   string
		members map[string]shared.Role
	}{
		{shared.Conversation{Type: shared.ConversationSingle, ID: "ann-ben"}, "Ann and Ben",
			map[string]shared.Role{"ann": shared.RoleMember, "ben": shared.RoleMember}},
		{shared.Conversation{Type: shared.ConversationGroup, ID: "team"}, "Team",
			map[string]shared.Role{"ann": shared.RoleOwner, "ben": shared.RoleAdmin, "cleo": shared.RoleMember,
				"dan": shared.RoleMember}},
		{shared.Conversation{Type: shared.ConversationChatroom, ID: "lobby"}, "Lobby",
			map[string]shared.Role{"cleo": shared.RoleOwner, "ann": shared.RoleMember, "ben": shared.RoleMember,
				"dan": shared.RoleMember}},
	} {
		if err := s.store.AddConversation(ctx, c.room, c.title); err != nil {
			return err
		}
		for user, role := range c.members {
			if err := s.store.SetRole(ctx, c.room, user, role); err != nil {
				return err
			}
		}
	}
	return nil
}

// greet has somebody write, once, so that the page begins with something to do.
func greet(ctx context.Context, s *Server) error {
	if s.store.LastSeq() > 0 {
		return nil
	}
	sender, room := "ben", shared.Conversation{Type: shared.ConversationSingle, ID: "ann-ben"}
	texts := []string{
		"Hi Ann! Send me something you will regret.",
		"Then open the menu of your message (⋯) and take it back: it goes from my screen too.",
	}
	if s.store.node != "" {
		sender, room = "dan", shared.Conversation{Type: shared.ConversationGroup, ID: "team"}
		texts = []string{
			"Hi all! Each of you is on another server. Send something you will regret.",
			"Then open the menu of your message (⋯) and take it back: it goes from all screens.",
		}
	}
	for i, text := range texts {
		// The servers of a cluster all do so when they start, and it is one message.
		out := Outgoing{ID: fmt.Sprint("greeting-", i), Conversation: room, Text: text}
		if _, err := s.Send(ctx, sender, out); err != nil && !errors.Is(err, ErrRecalled) {
			return fmt.Errorf("send the greeting: %w", err)
		}
	}
	return nil
}

// Prepare makes the database in a folder that the servers of a cluster will share, with the demo users and
// conversations.
func Prepare(ctx context.Context, folder string) error {
	s, err := newServer(Data{Folder: folder}, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	return errors.Join(addDemo(ctx, s), s.Close())
}

// BetweenWrites calls do while no server writes to the database in a folder that servers share. A server that is
// stopped within a transaction would keep the others from writing until it goes on; a database server would end its
// session.
func BetweenWrites(ctx context.Context, folder string, do func() error) (err error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(folder, databaseFile)+"?_pragma="+patient)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("wait for the writes to the database: %w", err)
	}
	err = do()
	_, undo := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	return errors.Join(err, undo)
}

// printGuide prints what to do next.
func printGuide(w io.Writer, addr string) {
	id := "m" + strconv.FormatInt(time.Now().Unix(), 36) // a new one: the server remembers what it had at an earlier start
	fmt.Fprintf(w, `Open http://%[1]s in a browser: choose who you are, send a message, take it back.
The operator's page is http://%[1]s/operator, and compliance reads who recalled what at
http://%[1]s/audit?user=vera. There are no passwords: whoever reaches this address is whom they say
they are, so the server listens on the loopback interface alone.

Or by hand. Users: ann, ben, cleo, dan. Conversations: single ann-ben; group team (owner ann, admin ben);
chatroom lobby (owner cleo).

Listen as Ben, in a second terminal:
  curl -N 'http://%[1]s/stream?user=ben'
Send as Cleo, to the team:
  curl -H 'X-User: cleo' --json '{"id":"%[2]s","conversation":{"type":"group","id":"team"},"text":"oops"}' \
    'http://%[1]s/messages'
Take it back:
  curl -H 'X-User: cleo' --json '{"message_ids":["%[2]s"],"ext":"a slip"}' 'http://%[1]s/recall'
Look: it is gone from the history.
  curl 'http://%[1]s/history?user=ben&type=group&id=team'
Stop the server with Ctrl-C.
`, addr, id)
}
