package adapter_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

// forum is a chat platform: it has posts, and members of channels with what they are there.
type forum struct {
	posts    []post
	members  map[string]map[string]string // by channel and user
	sessions map[string]string            // the users by their tokens
}

type post struct{ id, channel, author, text string }

// A post's facts, from the platform's own store: never from a client.
func (p post) message() shared.Message {
	return shared.Message{ID: p.id, Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: p.channel},
		Sender: p.author, Type: shared.TypeText, SentAt: time.Now()}
}

func (f *forum) Facts(_ context.Context, ids []string) (map[string]shared.Message, error) {
	facts := make(map[string]shared.Message)
	for _, id := range ids {
		for _, p := range f.posts {
			if p.id == id {
				facts[id] = p.message()
			}
		}
	}
	return facts, nil
}

func (f *forum) Role(_ context.Context, user string, c shared.Conversation) (shared.Role, bool, error) {
	switch f.members[c.ID][user] {
	case "moderator":
		return shared.RoleAdmin, true, nil
	case "member":
		return shared.RoleMember, true, nil
	}
	return "", false, nil // to them the channel does not exist
}

// after pages through the posts, oldest first.
func (f *forum) after(_ context.Context, cursor string) (page adapter.Page[shared.Message], err error) {
	from, _ := strconv.Atoi(cursor) // "" is before the first
	for _, p := range f.posts[from:min(from+100, len(f.posts))] {
		page.Items = append(page.Items, p.message())
	}
	next := from + len(page.Items)
	page.Next, page.More = strconv.Itoa(next), next < len(f.posts)
	return page, nil
}

func (f *forum) empty(_ context.Context, d shared.Delivery) (shared.Outcome, error) {
	for i := range f.posts {
		if f.posts[i].id == d.Message.ID {
			f.posts[i].text = ""
		}
	}
	return shared.OutcomeDone, nil
}

func (f *forum) isEmpty(_ context.Context, d shared.Delivery) error {
	for _, p := range f.posts {
		if p.id == d.Message.ID && p.text != "" {
			return fmt.Errorf("post %s still has its text", p.id)
		}
	}
	return nil
}

// TestForum is the adapter of docs/platforms.md.
func TestForum(t *testing.T) {
	ctx, dir, log := within(t), t.TempDir(), hclog.NewNullLogger()
	platform := &forum{
		posts:    []post{{"p1", "general", "ann", "wrong channel"}},
		members:  map[string]map[string]string{"general": {"ann": "member", "ben": "member"}},
		sessions: map[string]string{"token-of-ann": "ann", "token-of-ben": "ben"},
	}
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), dir)

	recalls := adapter.New(adapter.Config{Tenant: "forum", Platform: platform})
	recall, err := host.Open(ctx, host.Config{
		File: file, RunDir: hosttest.RunDir(t),
		Steps: map[string]host.Step{shared.StepHistory: {Run: platform.empty, Verify: platform.isEmpty}},
	})
	if err != nil {
		panic(err)
	}
	defer recall.Close()
	recalls.Attach(recall) // calls that came before wait for this

	posts := &adapter.Follower[shared.Message]{
		What: "posts", Read: platform.after, Do: recalls.Index(log, nil),
		Cursor: filepath.Join(dir, "posts.cursor"), Every: 2 * time.Second, Log: log,
	}
	if err := posts.Once(ctx); err != nil { // a server calls go posts.Run(ctx)
		panic(err)
	}

	handler := recalls.Handler(adapter.HTTP{Log: log, User: func(r *http.Request) (string, error) {
		user, ok := platform.sessions[r.Header.Get("Authorization")]
		if !ok {
			return "", adapter.ErrNoSession
		}
		return user, nil
	}})

	for _, c := range []struct{ user, want string }{{"ben", "denied"}, {"ann", "recalled"}, {"ben", "already_recalled"}} {
		body := `{"message_ids":["p1"],"recall_id":"r-` + c.user + `"}`
		r := httptest.NewRequest(http.MethodPost, "/recall", strings.NewReader(body))
		r.Header.Set("Authorization", "token-of-"+c.user)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if !strings.Contains(w.Body.String(), `"status":"`+c.want+`"`) {
			t.Errorf("%s: %d %s", c.user, w.Code, w.Body)
		}
	}
	if err := recall.Wait(ctx, "forum", "r-ann"); err != nil || platform.posts[0].text != "" {
		t.Errorf("%+v, %v", platform.posts[0], err)
	}
}
