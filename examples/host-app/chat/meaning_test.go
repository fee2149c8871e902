package chat

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// What recall means here, sentence by sentence, through the real plugin process.
func TestRecall_RolesAndWindow(t *testing.T) {
	s, _ := newTestServer(t)
	ctx := testContext(t)
	if err := s.store.SetRole(ctx, singleRoom, "ann", shared.RoleOwner); err != nil { // it must not help her
		t.Fatal(err)
	}
	sentAt := time.Now().Add(-30 * 24 * time.Hour).Truncate(time.Microsecond)
	const window = 2 * time.Minute
	for i, c := range []struct {
		says          string
		room          shared.Conversation
		sender, actor string
		kind          shared.MessageType
		after         time.Duration
		want          shared.RecallStatus
		code          shared.Code
	}{
		{"a sender takes a message back at once", singleRoom, "ben", "ben", shared.TypeText, 0, shared.StatusRecalled, ""},
		{"a sender takes an image back", singleRoom, "ben", "ben", shared.TypeImage, time.Second, shared.StatusRecalled, ""},
		{"a sender takes audio back", groupRoom, "dan", "dan", shared.TypeAudio, time.Second, shared.StatusRecalled, ""},
		{"a sender takes a video back", groupRoom, "dan", "dan", shared.TypeVideo, time.Second, shared.StatusRecalled, ""},
		{"a sender takes a file back", lobby, "dan", "dan", shared.TypeFile, time.Second, shared.StatusRecalled, ""},
		{"a sender takes a location back", lobby, "dan", "dan", shared.TypeLocation, time.Second, shared.StatusRecalled, ""},
		{"a sender takes a custom message back", groupRoom, "dan", "dan", shared.TypeCustom, time.Second,
			shared.StatusRecalled, ""},
		{"a sender takes a combined message back", groupRoom, "dan", "dan", shared.TypeCombine, time.Second,
			shared.StatusRecalled, ""},
		{"a sender takes no command back", groupRoom, "dan", "dan", shared.TypeCommand, time.Second, shared.StatusDenied,
			shared.CodeTypeNotRecallable},
		{"an owner takes no command back", groupRoom, "dan", "ann", shared.TypeCommand, time.Second, shared.StatusDenied,
			shared.CodeTypeNotRecallable},
		{"two minutes are in time, in a single conversation", singleRoom, "ben", "ben", shared.TypeText, window,
			shared.StatusRecalled, ""},
		{"two minutes are in time, in a group", groupRoom, "dan", "dan", shared.TypeText, window, shared.StatusRecalled, ""},
		{"two minutes are in time, in a chatroom", lobby, "dan", "dan", shared.TypeText, window, shared.StatusRecalled, ""},
		{"a microsecond more is late, in a single conversation", singleRoom, "ben", "ben", shared.TypeText,
			window + time.Microsecond, shared.StatusDenied, shared.CodeWindowExpired},
		{"a microsecond more is late, in a group", groupRoom, "dan", "dan", shared.TypeText, window + time.Microsecond,
			shared.StatusDenied, shared.CodeWindowExpired},
		{"a microsecond more is late, in a chatroom", lobby, "dan", "dan", shared.TypeText, window + time.Microsecond,
			shared.StatusDenied, shared.CodeWindowExpired},
		{"an owner recalls anyone's, however old, in a group", groupRoom, "dan", "ann", shared.TypeText, 29 * 24 * time.Hour,
			shared.StatusRecalled, ""},
		{"an admin recalls anyone's, however old, in a group", groupRoom, "dan", "ben", shared.TypeText, 29 * 24 * time.Hour,
			shared.StatusRecalled, ""},
		{"an admin recalls the owner's in a group", groupRoom, "ann", "ben", shared.TypeText, time.Hour,
			shared.StatusRecalled, ""},
		{"an owner recalls anyone's, however old, in a chatroom", lobby, "dan", "cleo", shared.TypeText, 29 * 24 * time.Hour,
			shared.StatusRecalled, ""},
		{"a member recalls nobody else's in a group", groupRoom, "dan", "cleo", shared.TypeText, time.Second,
			shared.StatusDenied, shared.CodeForbidden},
		{"an owner elsewhere is a member here", lobby, "dan", "ann", shared.TypeText, time.Second, shared.StatusDenied,
			shared.CodeForbidden},
		{"nobody recalls the other's in a single conversation", singleRoom, "ann", "ben", shared.TypeText, time.Second,
			shared.StatusDenied, shared.CodeForbidden},
		{"nobody recalls the other's in a single conversation, not as its owner either", singleRoom, "ben", "ann",
			shared.TypeText, time.Second, shared.StatusDenied, shared.CodeForbidden},
		{"an owner's own is late in a single conversation too", singleRoom, "ann", "ann", shared.TypeText,
			window + time.Second, shared.StatusDenied, shared.CodeWindowExpired},
		{"to who is not in the conversation the message does not exist", singleRoom, "ben", "dan", shared.TypeText,
			time.Second, shared.StatusNotFound, ""},
	} {
		t.Run(c.says, func(t *testing.T) {
			id := fmt.Sprintf("who-%d", i)
			send(t, s, c.sender, Outgoing{ID: id, Conversation: c.room, Type: c.kind, Text: c.says, SentAt: sentAt})
			ask := adapter.Ask{MessageIDs: []string{id}, RequestedAt: sentAt.Add(c.after)}
			checked, err := s.adapter.Check(ctx, c.actor, ask)
			if err != nil || checked[0].Status != c.want || checked[0].Code != c.code {
				t.Errorf("check: %+v, %v; want %s %s", checked, err, c.want, c.code)
			}
			got, err := s.Recall(ctx, c.actor, ask)
			if err != nil || got[0].Status != c.want || got[0].Code != c.code {
				t.Errorf("recall: %+v, %v; want %s %s", got, err, c.want, c.code)
			}
		})
	}
}

func TestRecall_Repeated(t *testing.T) {
	s, _ := newTestServer(t)
	send(t, s, "dan", Outgoing{ID: "once", Conversation: groupRoom, Text: "only once"})
	first := adapter.Ask{MessageIDs: []string{"once"}, RecallID: "r1"}
	if r := takeBack(t, s, "dan", first); r.Status != shared.StatusRecalled {
		t.Fatalf("%+v", r)
	}
	if r := takeBack(t, s, "dan", first); r.Status != shared.StatusRecalled {
		t.Errorf("the same request again: %+v", r)
	}
	second := adapter.Ask{MessageIDs: []string{"once"}, RecallID: "r2"}
	if r := takeBack(t, s, "dan", second); r.Status != shared.StatusAlreadyRecalled || r.RecallID != "r1" {
		t.Errorf("another request: %+v", r)
	}
	settled(t, s, "r1")
	if r := takeBack(t, s, "dan", first); r.Status != shared.StatusRecalled {
		t.Errorf("the same request after the stores were cleaned: %+v", r)
	}
	if _, err := s.Send(testContext(t), "dan",
		Outgoing{ID: "once", Conversation: groupRoom, Text: "only once"}); !errors.Is(err, ErrRecalled) {
		t.Errorf("a recalled message is sent again: %v", err)
	}
	if r := takeBack(t, s, "dan", adapter.Ask{MessageIDs: []string{"never sent"}}); r.Status != shared.StatusNotFound {
		t.Errorf("a message that never was: %+v", r)
	}
}

// A recalled message leaves history, offline queues, roaming logs, devices and attachments, and everyone is told.
func TestRecall_GoneFromEachStore(t *testing.T) {
	for _, room := range []shared.Conversation{groupRoom, lobby} {
		t.Run(string(room.Type), func(t *testing.T) {
			s, _ := newTestServer(t)
			ctx := testContext(t)
			ann, ben := connect(t, s, "ann"), connect(t, s, "ben") // dan is away all the time
			id := "m/" + string(room.Type)
			if err := s.files.Put(ctx, "photo", FileInfo{Name: "a.png", Owner: "cleo", Conversation: room},
				strings.NewReader("bytes of a photo")); err != nil {
				t.Fatal(err)
			}
			send(t, s, "cleo", Outgoing{ID: id, Conversation: room, Type: shared.TypeImage,
				Text: "a photo of the harbor at night", Attachments: []string{"photo"}})
			ann.wait(t, "message", id)
			ben.wait(t, "message", id)
			ben.leave(t) // has it, and is away when it is recalled
			queued, err := s.store.Queued(ctx, "dan", 0, 10)
			if err != nil {
				t.Fatal(err)
			}
			if want := room.Type == shared.ConversationGroup; (len(queued) == 1) != want {
				t.Fatalf("%d messages wait for dan; a chatroom is for those present, a group for all", len(queued))
			}

			r := takeBack(t, s, "cleo", adapter.Ask{MessageIDs: []string{id}, Ext: `{"why":"blurred"}`, RecallID: "r"})
			if r.Status != shared.StatusRecalled {
				t.Fatalf("%+v", r)
			}
			settled(t, s, "r")
			n := ann.notice(t, id)
			if n.Actor != "cleo" || n.MessageID != id || n.Conversation != room || n.Ext != `{"why":"blurred"}` ||
				n.RecallID != "r" {
				t.Errorf("the notice does not say who took what back where: %+v", n)
			}
			if n.Message == nil || n.Message.Sender != "cleo" || n.Message.Type != shared.TypeImage {
				t.Errorf("a client that had the message is not told what it was: %+v", n.Message)
			}
			benAgain, dan := connect(t, s, "ben"), connect(t, s, "dan")
			if room.Type == shared.ConversationGroup {
				if n := benAgain.notice(t, id); n.Message == nil {
					t.Error("who had received the message and was away at its recall is not told what it was")
				}
				if n := dan.notice(t, id); n.Message != nil {
					t.Errorf("who was away both times is told what the message was: %+v", n.Message)
				}
			} else {
				for user, d := range map[string]*device{"ben": benAgain, "dan": dan} {
					if waiting, err := s.store.Kept(ctx, user, 0, 10); err != nil || len(waiting) > 0 {
						t.Errorf("%d notices of a chatroom are kept for %s, %v", len(waiting), d.client.user, err)
					}
				}
			}
			if _, got := dan.has("message", id); got {
				t.Error("a recalled message was delivered late")
			}
			if history, _, err := s.store.History(ctx, room, 0, 10); err != nil || len(history) > 0 {
				t.Errorf("history still has %v, %v", history, err)
			}
			for _, user := range []string{"ann", "ben", "cleo", "dan"} {
				if log, err := s.store.Roamed(ctx, user, 0, 10); err != nil || len(log) > 0 {
					t.Errorf("the roaming log of %s has %v, %v", user, log, err)
				}
				if queue, err := s.store.Queued(ctx, user, 0, 10); err != nil || len(queue) > 0 {
					t.Errorf("the queue of %s has %v, %v", user, queue, err)
				}
			}
			if _, err := os.Stat(s.files.Path("photo")); !os.IsNotExist(err) {
				t.Errorf("the attachment is still there: %v", err)
			}
			api := &api{server: s, limits: newLimits(192)}
			if _, err := api.mayRead(ctx, "ann", "photo"); err != errFileGone {
				t.Errorf("reading the attachment says %v", err)
			}
		})
	}
}

func TestRecall_SingleConversation(t *testing.T) {
	s, _ := newTestServer(t)
	ben := connect(t, s, "ben")
	send(t, s, "ann", Outgoing{ID: "s", Conversation: singleRoom, Text: "between us two"})
	ben.wait(t, "message", "s")
	takeBack(t, s, "ann", adapter.Ask{MessageIDs: []string{"s"}, RecallID: "r"})
	if n := ben.notice(t, "s"); n.Message == nil {
		t.Error("who had the message is not told what it was")
	}
	ben.leave(t)
	send(t, s, "ann", Outgoing{ID: "t", Conversation: singleRoom, Text: "while you were away"})
	takeBack(t, s, "ann", adapter.Ask{MessageIDs: []string{"t"}, RecallID: "r2"})
	settled(t, s, "r2")
	again := connect(t, s, "ben")
	if n := again.notice(t, "t"); n.Message != nil {
		t.Error("who was away both times is told what the message was")
	}
	if _, got := again.has("message", "t"); got {
		t.Error("a recalled message was delivered late")
	}
}

func TestAttachments_UsedByAnotherMessage(t *testing.T) {
	s, _ := newTestServer(t)
	ctx := testContext(t)
	if err := s.files.Put(ctx, "shared", FileInfo{Name: "b.txt", Owner: "dan", Conversation: groupRoom},
		strings.NewReader("shared bytes")); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"f1", "f2"} {
		send(t, s, "dan", Outgoing{ID: id, Conversation: groupRoom, Type: shared.TypeFile, Attachments: []string{"shared"}})
	}
	takeBack(t, s, "dan", adapter.Ask{MessageIDs: []string{"f1"}, RecallID: "r1"})
	settled(t, s, "r1")
	if _, err := os.Stat(s.files.Path("shared")); err != nil {
		t.Errorf("the file went with the first of its messages: %v", err)
	}
	takeBack(t, s, "dan", adapter.Ask{MessageIDs: []string{"f2"}, RecallID: "r2"})
	settled(t, s, "r2")
	if _, err := os.Stat(s.files.Path("shared")); !os.IsNotExist(err) {
		t.Errorf("the file outlived its last message: %v", err)
	}
}
