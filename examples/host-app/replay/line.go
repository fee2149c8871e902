package replay

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/chat-recall/recall/examples/host-app/chat"
	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// arrive makes the user of a line what it must be: a sender is a member of the room from its first message on, and who
// recalls has in the message's room the role that the trace tells.
func (r *replay) arrive(ctx context.Context, l *traceLine, rooms map[string]shared.Conversation) error {
	if l.Op == "message" {
		if err := r.crowd.join(ctx, l.Sender); err != nil {
			return err
		}
		for _, room := range []shared.Conversation{l.room(), rooms[l.Forward]} { // who forwards a message has read it
			if _, in := r.server.Store().Member(room, l.Sender); in || room.ID == "" {
				continue
			}
			if err := r.server.Store().SetRole(ctx, room, l.Sender, shared.RoleMember); err != nil {
				return err
			}
		}
		return nil
	}
	if l.Op == "amend" {
		return nil
	}
	if err := r.crowd.join(ctx, l.Actor); err != nil {
		return err
	}
	room, known := rooms[l.MessageID]
	if !known {
		return nil
	}
	role := l.Role
	if role == "" {
		role = shared.RoleMember
	}
	return r.server.Store().SetRole(ctx, room, l.Actor, role)
}

func (r *replay) send(ctx context.Context, l *traceLine) error {
	out := chat.Outgoing{ID: l.ID, Conversation: l.room(), Type: l.Type, Text: l.Text, Attachments: l.Attachments,
		SentAt: l.SentAt, Quote: l.Quote, Edit: l.Edit, Forward: l.Forward}
	r.mu.Lock()
	if r.expected[l.ID] {
		out.SentAt = time.Time{}
	}
	r.mu.Unlock()
	_, err := r.server.Send(ctx, l.Sender, out)
	// A trace has keys of files and no files. One that another message used may have been deleted with it.
	for err != nil && r.lacksFile(err) {
		for _, key := range l.Attachments {
			info := chat.FileInfo{Name: "made for the replay", Owner: l.Sender, Conversation: l.room()}
			if err := r.server.Files().Put(ctx, key, info, strings.NewReader(fileText(key))); err != nil {
				return err
			}
		}
		_, err = r.server.Send(ctx, l.Sender, out)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Messages++
	got := ""
	switch {
	case err == nil:
		l.accepted, got = true, string(shared.IndexAdded)
	case errors.Is(err, chat.ErrRecalled):
		r.result.Refused++
		got = string(shared.IndexRecalled)
	case errors.Is(err, chat.ErrConflict):
		r.result.Refused++
		got = string(shared.IndexConflict)
	case errors.Is(err, shared.ErrInvalid):
		r.result.Refused++
		r.result.Mismatches++
		r.complain("mismatch: line %d: the server refused the message: %v", l.line, err)
	default:
		return err
	}
	if got != "" {
		r.expect(l, got)
	}
	return nil
}

// expect compares an answer with that of the trace. The lock is held.
func (r *replay) expect(l *traceLine, got string) {
	if l.Expect == nil {
		return
	}
	want := l.Expect.Status
	if l.Expect.Code != "" {
		want += ":" + string(l.Expect.Code)
	}
	if got != want {
		r.result.Mismatches++
		r.complain("mismatch: line %d: %s, expected %s", l.line, got, want)
	}
}

// amend changes the labels of a message.
func (r *replay) amend(ctx context.Context, l *traceLine) error {
	results, err := r.plugin.Amend(ctx, []shared.Amendment{{
		Tenant: chat.Tenant, MessageID: l.MessageID, Labels: append([]string{}, l.Labels...),
	}})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expect(l, string(results[0].Status))
	return nil
}

// job runs a job to its end.
func (r *replay) job(ctx context.Context, l *traceLine) error {
	job, err := r.plugin.StartJob(ctx, shared.JobRequest{
		Tenant: chat.Tenant, JobID: l.JobID, Filter: *l.Filter, Actor: shared.Actor{ID: l.Actor}, Role: l.Role,
		Reason: l.Reason, Ext: l.Ext,
	})
	for err == nil && job.State == shared.JobRunning {
		select {
		case <-time.After(10 * time.Millisecond): // polling, bounded by ctx
		case <-ctx.Done():
			return ctx.Err()
		}
		job, err = r.plugin.JobStatus(ctx, chat.Tenant, l.JobID)
	}
	if err != nil {
		return err
	}
	filter := shared.ListRequest{Tenant: chat.Tenant, JobID: l.JobID}
	for page, err := range shared.ListPages(ctx, r.plugin.List, filter) {
		if err != nil {
			return err
		}
		for _, e := range page.Events {
			r.recallIDs[e.RecallID] = true
		}
	}
	r.result.Jobs++
	if l.Expect != nil && job.Counts.Recalled != l.Expect.Recalled {
		r.result.Mismatches++
		r.complain("mismatch: line %d: %d messages recalled, expected %d", l.line, job.Counts.Recalled, l.Expect.Recalled)
	}
	return nil
}

// lacksFile tells whether the server refused a message for an attachment that is not there.
func (r *replay) lacksFile(err error) bool {
	var field *shared.FieldError
	return errors.As(err, &field) && strings.HasPrefix(field.Field, "attachments[") && field.Problem == chat.NoSuchFile
}

// fileText is the content of the small file made for an attachment.
func fileText(key string) string {
	return fmt.Sprintf("a small file in the place of another: %x\n", sha256.Sum256([]byte("content of "+key)))
}

func (r *replay) recall(ctx context.Context, l *traceLine, room shared.Conversation) error {
	ask := adapter.Ask{MessageIDs: []string{l.MessageID}, Ext: l.Ext, Reason: l.Reason, RecallID: l.RecallID,
		RequestedAt: l.At}
	if l.Wait > 0 {
		ask.Conversations, ask.RequestedAt = []shared.Conversation{room}, time.Time{}
		ask.Wait = time.Duration(l.Wait) * time.Second
	}
	results, err := r.server.Recall(ctx, l.Actor, ask)
	got := "invalid"
	var answer shared.RecallResult
	switch {
	case err == nil:
		answer = results[0]
		got = string(answer.Status)
		if answer.Code != "" {
			got += ":" + string(answer.Code)
		}
	case !errors.Is(err, shared.ErrInvalid):
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Recalls++
	r.result.ByStatus[got]++
	switch answer.Status {
	case shared.StatusRecalled:
		r.recalled[l.MessageID] = true
		r.recallIDs[answer.RecallID] = true
	case shared.StatusWaiting:
		r.recallIDs[answer.RecallID], r.expected[l.MessageID] = true, true
	}
	r.expect(l, got)
	return nil
}
