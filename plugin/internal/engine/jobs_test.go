package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/journal"
	"github.com/chat-recall/recall/shared"
)

// openRules permit everybody to recall anything, at most 3 pictures a minute, and nothing on hold.
const openRules = `
limit "pictures" {
  key  = actor.id
  rate = "3/1m"
}
permit "picture" {
  role   = ["member", "system"]
  type   = ["image"]
  window = "1h"
  limit  = "pictures"
}
permit "text" {
  role   = ["member", "system"]
  type   = ["text"]
  window = "7d"
}
forbid "hold" {
  when = contains(message.labels, "hold")
  code = "on_hold"
}
`

// jobRequest is of the system, for what ann sent.
func jobRequest(id string) shared.JobRequest {
	return shared.JobRequest{
		Tenant: "acme", JobID: id, Filter: shared.JobFilter{Sender: "ann"}, Actor: shared.Actor{ID: "mod"},
		Role: shared.RoleSystem,
	}
}

func (r *rig) startJob(req shared.JobRequest) shared.Job {
	r.t.Helper()
	job, err := r.StartJob(r.t.Context(), req)
	if err != nil {
		r.t.Fatal(err)
	}
	return job
}

func (r *rig) jobStatus(id string) shared.Job {
	r.t.Helper()
	job, err := r.JobStatus(r.t.Context(), "acme", id)
	if err != nil {
		r.t.Fatal(err)
	}
	return job
}

// waitJob waits until a job is as it should be, as long as it gets on.
func (r *rig) waitJob(id string, is func(shared.Job) bool) shared.Job {
	r.t.Helper()
	var last shared.Job
	for changed := time.Now(); time.Since(changed) < 30*time.Second; time.Sleep(time.Millisecond) {
		job := r.jobStatus(id)
		if is(job) {
			return job
		}
		if job.Examined != last.Examined {
			last, changed = job, time.Now()
		}
	}
	r.t.Fatalf("the job stays as it is: %+v", r.jobStatus(id))
	return shared.Job{}
}

func hasEnded(j shared.Job) bool { return j.State != shared.JobRunning }

// states are the ids of the messages of acme by state.
func (r *rig) recalled(ids ...string) (recalled []string) {
	r.t.Helper()
	statuses, err := r.Status(r.t.Context(), "acme", ids)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, s := range statuses {
		if s.State == shared.MessageRecalled {
			recalled = append(recalled, s.MessageID)
		}
	}
	return recalled
}

func TestStartJob_RecallsWhatMatches(t *testing.T) {
	for name, c := range map[string]struct {
		filter shared.JobFilter
		want   []string
	}{
		"sender":       {shared.JobFilter{Sender: "ann"}, []string{"a1", "a2", "a3", "a4"}},
		"conversation": {shared.JobFilter{Conversation: &shared.Conversation{Type: "group", ID: "h"}}, []string{"a4", "b2"}},
		"type":         {shared.JobFilter{Types: []shared.MessageType{"image", "text"}, Sender: "bob"}, []string{"b1", "b2"}},
		"no such type": {shared.JobFilter{Types: []shared.MessageType{"video"}}, nil},
		"labels":       {shared.JobFilter{Labels: []string{"seen", "spam"}}, []string{"a2"}},
		"one label":    {shared.JobFilter{Labels: []string{"spam"}}, []string{"a1", "a2"}},
		"time": {shared.JobFilter{
			From: clockStart.Add(2 * time.Second), Before: clockStart.Add(4 * time.Second),
		}, []string{"a3", "a4"}},
		"all of it": {shared.JobFilter{
			Sender: "ann", Labels: []string{"spam"}, Before: clockStart.Add(time.Second),
		}, []string{"a1"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newActive(t, openRules)
			var ids []string
			add := func(id, sender, conversation string, labels ...string) {
				m := r.message(id)
				m.Sender, m.Conversation.ID, m.Labels = sender, conversation, labels
				r.index(m)
				r.clock.Advance(time.Second)
				ids = append(ids, id)
			}
			add("a1", "ann", "g", "spam")
			add("a2", "ann", "g", "seen", "spam")
			add("a3", "ann", "g")
			add("a4", "ann", "h")
			add("b1", "bob", "g")
			add("b2", "bob", "h")
			other := r.message("a1")
			other.Tenant = "other"
			r.index(other)
			req := jobRequest("j")
			req.Filter, req.Reason, req.Ext = c.filter, "spam", "{}"
			if job := r.startJob(req); job.State != shared.JobRunning || !job.StartedAt.Equal(r.clock.Now()) {
				t.Errorf("at the start: %+v", job)
			}
			job := r.waitJob("j", hasEnded)
			if got := r.recalled(ids...); !slices.Equal(got, c.want) {
				t.Errorf("recalled %q, want %q", got, c.want)
			}
			want := shared.JobCounts{Recalled: len(c.want)}
			if job.State != shared.JobDone || !reflect.DeepEqual(job.Counts, want) || job.Examined != len(ids) ||
				job.Total != len(ids) || !job.EndedAt.Equal(r.clock.Now()) || !reflect.DeepEqual(job.Request, req) {
				t.Errorf("at the end: %+v", job)
			}
			for _, e := range r.ledger("j-1") {
				if e.Event.JobID != "j" || e.Event.Actor.ID != "mod" || e.Event.Reason != "spam" || e.Event.Ext != "{}" ||
					!e.Event.RecalledAt.Equal(job.StartedAt) || e.Event.Rule.Name != "text" || len(e.Steps) == 0 {
					t.Errorf("%+v", e)
				}
			}
			if s, err := r.Status(t.Context(), "other", []string{"a1"}); err != nil || s[0].State != shared.MessageLive {
				t.Errorf("a message of another tenant: %+v %v", s, err)
			}
			if got := r.metric("recall_job_messages_examined_total"); got != float64(len(ids)) {
				t.Errorf("the metrics count %v examined messages", got)
			}
		})
	}
}

// clockStart is when the clock of a rig begins.
var clockStart = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// mixed indexes messages of ann of which the rules answer differently, and returns what a job is to count.
func (r *rig) mixed() shared.JobCounts {
	r.t.Helper()
	want := shared.JobCounts{Denied: map[shared.Code]int{}}
	for i := range 100 {
		m := r.message(fmt.Sprint("m", i))
		switch i % 5 {
		case 0:
			m.Labels = []string{"hold"}
			want.Denied["on_hold"]++
		case 1:
			m.Type = shared.TypeVideo
			want.Denied[shared.CodeForbidden]++
		case 2:
			want.AlreadyRecalled++
		case 3:
			m.Sender = "bob"
		default:
			want.Recalled++
		}
		r.index(m)
		if i%5 == 2 {
			if got := r.recall(request("before", m.ID)); got[0].Status != shared.StatusRecalled {
				r.t.Fatalf("%+v", got)
			}
		}
	}
	return want
}

func TestPreviewJob_CountsWhatTheJobThenDoes(t *testing.T) {
	r := newActive(t, openRules)
	want := r.mixed()
	pages := 0
	preview, err := shared.PreviewJob(t.Context(), r, jobRequest(""), func(p shared.JobPreview) { pages++ })
	if err != nil || pages == 0 || preview.Examined != 100 || preview.Total != 100 || preview.More {
		t.Fatalf("%d pages: %+v %v", pages, preview, err)
	}
	r.startJob(jobRequest("j"))
	job := r.waitJob("j", hasEnded)
	if !reflect.DeepEqual(preview.Counts, want) || !reflect.DeepEqual(job.Counts, want) {
		t.Errorf("previewed %+v, done %+v, want %+v", preview.Counts, job.Counts, want)
	}
	after, err := shared.PreviewJob(t.Context(), r, jobRequest("j"), nil)
	want.Recalled, want.AlreadyRecalled = 0, want.AlreadyRecalled+want.Recalled
	if err != nil || !reflect.DeepEqual(after.Counts, want) {
		t.Errorf("a preview after the job: %+v %v, want %+v", after.Counts, err, want)
	}
}

func TestPreviewJob_Pages(t *testing.T) {
	r := newActive(t, openRules)
	r.mixed()
	first, err := r.PreviewJob(t.Context(), shared.JobPreviewRequest{Job: jobRequest("")})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("what comes later is not counted", func(t *testing.T) {
		r.index(r.message("later"))
		page, err := r.PreviewJob(t.Context(), shared.JobPreviewRequest{Job: jobRequest(""), After: first.Next})
		if err != nil || page.More || page.Examined != 0 || page.Total != 100 {
			t.Errorf("%+v %v", page, err)
		}
	})
	t.Run("a cursor of another index", func(t *testing.T) {
		end := strings.LastIndexByte(first.Next, '-')
		page, err := r.PreviewJob(t.Context(), shared.JobPreviewRequest{Job: jobRequest(""), After: "x" + first.Next[end:]})
		if err != nil || !page.Reset {
			t.Errorf("%+v %v", page, err)
		}
	})
	for _, cursor := range []string{"x", "x-", "x-1.2.3", first.Next + ".1", first.Next[:len(first.Next)-1] + "-"} {
		_, err := r.PreviewJob(t.Context(), shared.JobPreviewRequest{Job: jobRequest(""), After: cursor})
		field(t, cursor, err, "after")
	}
}

// oneAMinute lets a job recall a message a minute, if they are young when it starts.
const oneAMinute = `
limit "one" {
  key  = actor.id
  rate = "1/1m"
}
permit "soon" {
  role   = ["system"]
  window = "90s"
  limit  = "one"
}
`

func TestStartJob_IsJudgedAsOfItsStart(t *testing.T) {
	r := newActive(t, oneAMinute)
	for i := range 3 {
		r.index(r.message(fmt.Sprint("m", i)))
	}
	r.clock.Advance(80 * time.Second) // for a user it would be too late once the limit has room
	r.startJob(jobRequest("j"))
	for n := range 3 {
		job := r.waitJob("j", func(j shared.Job) bool {
			return j.Counts.Recalled == n+1 && (n == 2 || !j.WaitingUntil.IsZero())
		})
		if n < 2 && !job.WaitingUntil.Equal(r.clock.Now().Add(time.Minute)) {
			t.Errorf("after %d recalls, at %s, it waits until %s", n+1, r.clock.Now(), job.WaitingUntil)
		}
		r.clock.Advance(time.Minute) // the third is recalled more than three minutes after it was sent
	}
	job := r.waitJob("j", hasEnded)
	if job.Counts.Recalled != 3 || job.Counts.Denied != nil || !job.WaitingUntil.IsZero() {
		t.Errorf("%+v", job)
	}
	if got := r.metric("recall_recalls_total", "status", "denied"); got != 0 {
		t.Errorf("%v refusals are counted", got)
	}
}

// The time that a commit takes counts for the limit that the job waits for after it.
func TestStartJob_WaitsFromWhenItWasJudged(t *testing.T) {
	r := newActive(t, oneAMinute)
	r.index(r.message("a"), r.message("b"))
	r.failSlices(func(ops []index.Op) error {
		if len(ops) > 1 { // it recalls
			r.clock.Advance(time.Minute)
		}
		return nil
	})
	r.startJob(jobRequest("j"))
	if job := r.waitJob("j", hasEnded); job.Counts.Recalled != 2 {
		t.Errorf("%+v", job)
	}
}

func TestStartJob_OfALimitThatPermitsNothing(t *testing.T) {
	r := newActive(t, openRules)
	for i := range 5 {
		m := r.message(fmt.Sprint("m", i))
		m.Type = shared.TypeImage
		r.index(m)
	}
	r.startJob(jobRequest("j"))
	r.waitJob("j", func(j shared.Job) bool { return j.Counts.Recalled == 3 && !j.WaitingUntil.IsZero() })
	t.Run("the actor has used it up", func(t *testing.T) {
		m := r.message("own")
		m.Type = shared.TypeImage
		r.index(m)
		got := r.recall(as("mod", shared.RoleSystem, request("r", "own")))
		if got[0].Code != shared.CodeRateLimited {
			t.Errorf("%+v", got)
		}
	})
	t.Run("a canceled job waits no longer", func(t *testing.T) {
		job, err := r.CancelJob(t.Context(), "acme", "j")
		if err != nil || job.State != shared.JobCanceled || !job.WaitingUntil.IsZero() || job.Counts.Recalled != 3 {
			t.Errorf("%+v %v", job, err)
		}
		r.waitMetric("recall_jobs_running", 0)
	})
}

func (r *rig) waitMetric(name string, want float64) {
	r.t.Helper()
	ctx := within(r.t, 30*time.Second)
	for r.metric(name) != want {
		select {
		case <-ctx.Done():
			r.t.Fatalf("%s is %v, want %v", name, r.metric(name), want)
		case <-time.After(time.Millisecond):
		}
	}
}

func TestStartJob_Again(t *testing.T) {
	r := newActive(t, openRules)
	r.index(r.message("m"))
	req := jobRequest("j")
	req.Filter.Types = []shared.MessageType{shared.TypeVideo, shared.TypeText}
	r.startJob(req)
	was := r.waitJob("j", hasEnded)
	r.clock.Advance(time.Minute)
	slices.Reverse(req.Filter.Types)
	if job := r.startJob(req); !reflect.DeepEqual(job, was) {
		t.Errorf("the same request: %+v, was %+v", job, was)
	}
	for name, change := range map[string]func(*shared.JobRequest){
		"filter": func(r *shared.JobRequest) { r.Filter.Sender = "bob" },
		"actor":  func(r *shared.JobRequest) { r.Actor.Labels = []string{"x"} },
		"reason": func(r *shared.JobRequest) { r.Reason = "other" },
		"until":  func(q *shared.JobRequest) { q.Until = r.clock.Now().Add(time.Hour) },
	} {
		changed := req
		change(&changed)
		_, err := r.StartJob(t.Context(), changed)
		field(t, name, err, "job_id")
	}
	req.Tenant = "other"
	if job, err := r.StartJob(t.Context(), req); err != nil || job.State != shared.JobRunning {
		t.Errorf("the same id of another tenant: %+v %v", job, err)
	}
}

func TestJobs_Invalid(t *testing.T) {
	r := newActive(t, openRules)
	start := func(change func(*shared.JobRequest)) error {
		req := jobRequest("j")
		change(&req)
		_, err := r.StartJob(t.Context(), req)
		return err
	}
	for name, c := range map[string]struct {
		err   error
		field string
	}{
		"empty filter": {start(func(r *shared.JobRequest) { r.Filter = shared.JobFilter{} }), "filter"},
		"role without a conversation": {start(func(r *shared.JobRequest) { r.Role = shared.RoleAdmin }),
			"filter.conversation"},
		"until in the past": {start(func(q *shared.JobRequest) { q.Until = r.clock.Now() }), "until"},
		"until after a week": {start(func(q *shared.JobRequest) { q.Until = r.clock.Now().Add(7*24*time.Hour + 1000) }),
			"until"},
		"no id": {start(func(r *shared.JobRequest) { r.JobID = "" }), "job_id"},
	} {
		field(t, name, c.err, c.field)
	}
	_, err := r.JobStatus(t.Context(), "acme", "j")
	field(t, "status of none", err, "job_id")
	_, err = r.CancelJob(t.Context(), "acme", "j")
	field(t, "cancel none", err, "job_id")
}

func TestStartJob_RoleInItsConversation(t *testing.T) {
	r := newActive(t, `
permit "admins" {
  role = ["admin"]
  when = contains(conversation.labels, "public")
}
`)
	other := r.message("elsewhere")
	other.Conversation.ID = "h"
	r.index(r.message("m"), other)
	req := jobRequest("j")
	req.Role, req.ConversationLabels = shared.RoleAdmin, []string{"public"}
	req.Filter.Conversation = &shared.Conversation{Type: shared.ConversationGroup, ID: "g"}
	r.startJob(req)
	if job := r.waitJob("j", hasEnded); job.Counts.Recalled != 1 || job.Counts.Denied != nil {
		t.Errorf("%+v", job)
	}
	if got := r.recalled("m", "elsewhere"); !slices.Equal(got, []string{"m"}) {
		t.Errorf("%q", got)
	}
}

func TestStartJob_Until(t *testing.T) {
	r := newActive(t, openRules)
	r.index(r.message("before"))
	req := jobRequest("ban")
	req.Until = r.clock.Now().Add(time.Hour)
	r.startJob(req)
	r.waitJob("ban", func(j shared.Job) bool { return j.Counts.Recalled == 1 })
	r.clock.Advance(time.Hour - 4*time.Second)
	m := r.message("during")
	r.index(m)
	late := r.message("sent later") // by a clock that is ahead
	late.SentAt = req.Until
	r.index(late)
	r.advanceUntil("ban", time.Millisecond, func(j shared.Job) bool { return j.Counts.Recalled == 2 })
	if job := r.jobStatus("ban"); hasEnded(job) {
		t.Errorf("before the end: %+v", job)
	}
	r.clock.Advance(time.Hour)
	r.advanceUntil("ban", time.Second, hasEnded)
	r.index(r.message("after"))
	if got := r.recalled("before", "during", "sent later", "after"); !slices.Equal(got, []string{"before", "during"}) {
		t.Errorf("recalled %q", got)
	}
	for _, e := range r.ledger("ban-1") {
		id, at := e.Event.Message.ID, e.Event.RecalledAt
		if at.Before(e.Event.Message.SentAt) || id == "during" && !at.Equal(m.SentAt) {
			t.Errorf("%s was recalled at %s", id, at)
		}
	}
}

// advanceUntil moves the clock on until a job is as it should be.
func (r *rig) advanceUntil(id string, by time.Duration, is func(shared.Job) bool) {
	r.t.Helper()
	r.waitJob(id, func(j shared.Job) bool {
		if is(j) {
			return true
		}
		r.clock.Advance(by)
		return false
	})
}

func TestStartJob_GoesOnInTheNextProcess(t *testing.T) {
	r := newActive(t, openRules)
	var want []string
	for i := range 200 {
		m := r.message(fmt.Sprint("m", i))
		r.index(m)
		want = append(want, m.ID)
	}
	r.startJob(jobRequest("j"))
	for range 3 {
		was := r.jobStatus("j")
		r.waitJob("j", func(j shared.Job) bool { return j.Counts.Recalled > was.Counts.Recalled || hasEnded(j) })
		if err := r.Quiesce(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.start()
		r.activate()
	}
	job := r.waitJob("j", hasEnded)
	if job.Counts.Recalled != 200 || job.Counts.AlreadyRecalled != 0 || job.Examined != 200 {
		t.Errorf("%+v", job)
	}
	if got := r.recalled(want...); len(got) != 200 {
		t.Errorf("%d messages are recalled", len(got))
	}
}

func TestStartJob_ManyRecallIDs(t *testing.T) {
	r := newActive(t, openRules)
	const count = shared.MaxRecallMessages + 500
	for first := 0; first < count; first += 500 {
		var msgs []shared.Message
		for i := range 500 {
			msgs = append(msgs, r.message(fmt.Sprint("m", first+i)))
		}
		r.index(msgs...)
	}
	// somebody has used the second recall id with many messages
	taken := r.message("taken")
	taken.Sender = "mod"
	r.index(taken)
	if got := r.recall(as("mod", shared.RoleSystem, request("j-2", "taken"))); got[0].Status != shared.StatusRecalled {
		t.Fatalf("%+v", got)
	}
	r.startJob(jobRequest("j"))
	job := r.waitJob("j", hasEnded)
	if job.Counts.Recalled != count {
		t.Errorf("%+v", job)
	}
	first, second := len(r.ledger("j-1")), len(r.ledger("j-2"))
	if first > shared.MaxRecallMessages || first < shared.MaxRecallMessages-sliceMessages || first+second != count+1 {
		t.Errorf("%d and %d messages", first, second)
	}
}

func TestStartJob_RecallIDOfAnotherActor(t *testing.T) {
	r := newActive(t, openRules)
	r.index(r.message("m"), r.message("mine"))
	for i := range 3 {
		id := fmt.Sprint("mine", i)
		r.index(r.message(id))
		r.recall(request(fmt.Sprint("j-", i+1), id)) // by ann, who knows the id of the job
	}
	for i := range 40 {
		r.index(r.message(fmt.Sprint("more", i)))
	}
	r.startJob(jobRequest("j"))
	want := shared.JobCounts{Recalled: 42, AlreadyRecalled: 3}
	if job := r.waitJob("j", hasEnded); !reflect.DeepEqual(job.Counts, want) {
		t.Errorf("%+v, want %+v", job.Counts, want)
	}
	if e := r.ledger("j-4"); len(e) != 42 {
		t.Errorf("j-4 has %d entries", len(e))
	}
}

// Recall ids of other jobs, and of recalls of the host, may begin like those of a job.
func TestStartJob_NamedLikeAnother(t *testing.T) {
	r := newActive(t, openRules)
	r.index(r.message("m1"), r.message("m2"), r.message("m3"), r.message("m4"))
	r.startJob(jobRequest("j-1"))
	if job := r.waitJob("j-1", hasEnded); job.Counts.Recalled != 4 {
		t.Fatalf("%+v", job)
	}
	r.index(r.message("m5"), r.message("m6"))
	for _, recallID := range []string{"j-7", "j-0", "j--1", "j-x"} {
		m := r.message("of " + recallID)
		r.index(m)
		r.recall(as("mod", shared.RoleSystem, request(recallID, m.ID)))
	}
	r.startJob(jobRequest("j"))
	want := shared.JobCounts{Recalled: 2, AlreadyRecalled: 8}
	if job := r.waitJob("j", hasEnded); !reflect.DeepEqual(job.Counts, want) {
		t.Errorf("%+v, want %+v", job.Counts, want)
	}
}

func TestCancelJob(t *testing.T) {
	r := newActive(t, openRules)
	r.index(r.message("m"))
	req := jobRequest("ban")
	req.Until = r.clock.Now().Add(time.Hour)
	r.startJob(req)
	r.waitJob("ban", func(j shared.Job) bool { return j.Counts.Recalled == 1 })
	job, err := r.CancelJob(t.Context(), "acme", "ban")
	if err != nil || job.State != shared.JobCanceled || !job.EndedAt.Equal(r.clock.Now()) || job.Counts.Recalled != 1 {
		t.Fatalf("%+v %v", job, err)
	}
	r.clock.Advance(time.Minute)
	if again, err := r.CancelJob(t.Context(), "acme", "ban"); err != nil || !reflect.DeepEqual(again, job) {
		t.Errorf("again: %+v %v", again, err)
	}
	r.index(r.message("later"))
	r.waitMetric("recall_jobs_running", 0)
	if got := r.recalled("m", "later"); !slices.Equal(got, []string{"m"}) {
		t.Errorf("recalled %q", got)
	}
	r.startJob(jobRequest("other"))
	done := r.waitJob("other", hasEnded)
	if again, err := r.CancelJob(t.Context(), "acme", "other"); err != nil || !reflect.DeepEqual(again, done) {
		t.Errorf("one that is done: %+v %v", again, err)
	}
}

func TestJobs_Pages(t *testing.T) {
	r := newActive(t, openRules)
	r.index(r.message("m"))
	var want []string
	for i := range 7 {
		id := fmt.Sprint("j", (i*3)%7)
		r.startJob(jobRequest(id))
		r.waitJob(id, hasEnded)
		want = append([]string{id}, want...)
	}
	ban := jobRequest("a ban")
	ban.Until = r.clock.Now().Add(time.Hour)
	r.startJob(ban)
	want = append([]string{"a ban"}, want...)
	other := jobRequest("x")
	other.Tenant = "other"
	if _, err := r.StartJob(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	all := func(req shared.JobsRequest) (ids []string) {
		for {
			page, err := r.Jobs(t.Context(), req)
			if err != nil || page.Reset || len(page.Jobs) > 3 {
				t.Fatalf("%+v %v", page, err)
			}
			for _, j := range page.Jobs {
				ids = append(ids, j.Request.JobID)
			}
			if req.After = page.Next; !page.More {
				return ids
			}
		}
	}
	if got := all(shared.JobsRequest{Tenant: "acme", Limit: 3}); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := all(shared.JobsRequest{Tenant: "acme", Limit: 3, State: shared.JobDone}); !slices.Equal(got, want[1:]) {
		t.Errorf("done: %q, want %q", got, want[1:])
	}
	if got := all(shared.JobsRequest{Tenant: "acme", Limit: 3, State: shared.JobRunning}); !slices.Equal(got, want[:1]) {
		t.Errorf("running: %q, want %q", got, want[:1])
	}
}

func TestStartJob_WhileFactsChange(t *testing.T) {
	r := newActive(t, openRules)
	for i := range 300 {
		r.index(r.message(fmt.Sprint("m", i)))
	}
	stop, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; stop.Err() == nil; n++ {
			ref := fmt.Sprint(n)
			if _, err := r.Amend(stop, []shared.Amendment{
				{Tenant: "acme", MessageID: fmt.Sprint("m", n*7%300), Ref: &ref},
			}); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	}()
	r.startJob(jobRequest("j"))
	job := r.waitJob("j", hasEnded)
	cancel()
	<-done
	if job.Counts.Recalled != 300 || job.Counts.AlreadyRecalled != 0 || job.Examined != 300 {
		t.Errorf("%+v", job)
	}
}

func TestStartJob_TakesTurns(t *testing.T) {
	r := newActive(t, openRules)
	var msgs []shared.Message
	for i := range 1000 {
		m := r.message(fmt.Sprint("m", i))
		m.Sender = []string{"ann", "bob"}[i%2]
		msgs = append(msgs, m)
	}
	r.index(msgs...)
	first, second := jobRequest("1"), jobRequest("2")
	second.Filter.Sender = "bob"
	both := make(chan struct{})
	r.failSlices(func([]index.Op) error {
		<-both
		return nil
	})
	r.startJob(first)
	r.startJob(second)
	close(both)
	r.waitJob("1", hasEnded)
	r.waitJob("2", hasEnded)
	var order []string
	req := shared.ListRequest{Tenant: "acme"}
	page, err := r.List(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range page.Events {
		if n := len(order); n == 0 || order[n-1] != e.JobID {
			order = append(order, e.JobID)
		}
	}
	if len(page.Events) != 1000 || len(order) < 6 {
		t.Errorf("%d events, of the jobs %q", len(page.Events), order)
	}
}

func TestStartJob_TooMany(t *testing.T) {
	r := newActive(t, openRules)
	req := jobRequest("")
	req.Until = r.clock.Now().Add(time.Hour)
	for i := range shared.MaxRunningJobs {
		req.JobID = fmt.Sprint("j", i)
		r.startJob(req)
	}
	req.JobID = "one more"
	_, err := r.StartJob(t.Context(), req)
	field(t, "one more", err, "tenant")
	if _, err := r.CancelJob(t.Context(), "acme", "j7"); err != nil {
		t.Fatal(err)
	}
	r.startJob(req)
	counts := map[shared.JobState]int{}
	page, err := r.Jobs(t.Context(), shared.JobsRequest{Tenant: "acme"})
	for _, j := range page.Jobs {
		counts[j.State]++
	}
	if err != nil || !maps.Equal(counts, map[shared.JobState]int{shared.JobRunning: 99, shared.JobCanceled: 1}) ||
		!page.More {
		t.Errorf("%v %v", counts, err)
	}
}

// advanceAll moves the clocks of all nodes on until a job has ended on each.
func advanceAll(t *testing.T, nodes []*rig, id string) (job shared.Job) {
	t.Helper()
	for _, n := range nodes {
		n.waitJob(id, func(j shared.Job) bool {
			for _, n := range nodes {
				n.clock.Advance(10 * time.Millisecond)
			}
			job = j
			return hasEnded(j)
		})
	}
	return job
}

// indexOn indexes messages of ann on each of the nodes in turn.
func indexOn(t *testing.T, nodes []*rig, count int) {
	t.Helper()
	for i := range count {
		n := nodes[i%len(nodes)]
		n.index(n.message(fmt.Sprint("m", i)))
	}
}

func TestCluster_Job(t *testing.T) {
	c := newMemoryCluster()
	nodes := []*rig{c.newNode(t, "n0"), c.newNode(t, "n1"), c.newNode(t, "n2")}
	indexOn(t, nodes, 90)
	var jobs []shared.Job
	for i, n := range nodes { // whoever runs it
		id := fmt.Sprint("j", i)
		n.startJob(jobRequest(id))
		if job, err := nodes[(i+1)%3].JobStatus(t.Context(), "acme", id); err != nil || job.Request.JobID != id {
			t.Errorf("another node answers %+v %v", job, err)
		}
		jobs = append(jobs, advanceAll(t, nodes, id))
	}
	if jobs[0].Counts.Recalled != 90 || jobs[0].Counts.AlreadyRecalled != 0 || jobs[1].Counts.AlreadyRecalled != 90 {
		t.Errorf("%+v", jobs)
	}
	for _, n := range nodes {
		if e := n.ledger("j0-1"); len(e) != 90 {
			t.Errorf("the ledger has %d entries", len(e))
		}
	}
}

func TestCluster_JobOfANodeThatLeaves(t *testing.T) {
	c := newMemoryCluster()
	nodes := []*rig{c.newNode(t, "n0"), c.newNode(t, "n1"), c.newNode(t, "n2")}
	ban := jobRequest("ban")
	ban.Until = nodes[0].clock.Now().Add(time.Hour)
	nodes[0].startJob(ban)
	job, err := nodes[0].Engine.active.index.Job("acme", "ban")
	if err != nil {
		t.Fatal(err)
	}
	runs := slices.IndexFunc(nodes, func(n *rig) bool {
		is, err := n.Engine.active.runsJob(job)
		return is && err == nil
	})
	if runs < 0 {
		t.Fatal("no node runs the job")
	}
	if err := nodes[runs].Quiesce(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := slices.Delete(slices.Clone(nodes), runs, runs+1)
	indexOn(t, left, 20)
	left[0].waitJob("ban", func(j shared.Job) bool {
		for _, n := range left {
			n.clock.Advance(10 * time.Millisecond)
		}
		return j.Counts.Recalled == 20
	})
	if _, err := left[1].CancelJob(t.Context(), "acme", "ban"); err != nil {
		t.Fatal(err)
	}
	advanceAll(t, left, "ban")
}

// Each slice counts once, although every node takes itself for the one that runs the job.
func TestCluster_JobOnAllNodesAtOnce(t *testing.T) {
	c := newMemoryCluster()
	nodes := []*rig{c.newNode(t, "n0"), c.newNode(t, "n1"), c.newNode(t, "n2")}
	indexOn(t, nodes, 150)
	nodes[0].startJob(jobRequest("j"))
	var running sync.WaitGroup
	for _, n := range nodes {
		if _, err := n.JobStatus(t.Context(), "acme", "j"); err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			a := n.Engine.active
			w := &jobWork{engine: n.Engine, tenant: "acme", id: "j", most: 4}
			for {
				job, err := a.index.Job("acme", "j")
				if err != nil {
					t.Error(err)
					return
				}
				if job.State != shared.JobRunning {
					return
				}
				w.begin(job)
				if _, err := w.walk(t.Context(), a); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
	for _, n := range nodes {
		job := n.jobStatus("j")
		if job.Counts.Recalled != 150 || job.Counts.AlreadyRecalled != 0 || job.Examined != 150 {
			t.Errorf("%+v", job)
		}
		if e := n.ledger("j-1"); len(e) != 150 {
			t.Errorf("the ledger has %d entries", len(e))
		}
	}
}

// related is a message that relates to another one.
func (r *rig) related(id, sender string, kind shared.RelationKind, to string) shared.Message {
	m := r.message(id)
	m.Sender, m.Relations = sender, []shared.Relation{{Kind: kind, MessageID: to}}
	return m
}

func TestStartJob_Relations(t *testing.T) {
	r := newActive(t, openRules)
	r.index(r.message("m"), r.related("edit", "ann", shared.RelationEdit, "m"),
		r.related("quote", "bob", shared.RelationQuote, "m"))
	for i := range 40 { // so that the edit is in another slice than its original
		r.index(r.message(fmt.Sprint("filler", i)))
	}
	r.index(r.message("n"))
	for i := range 40 {
		r.index(r.message(fmt.Sprint("more", i)))
	}
	r.index(r.related("late edit", "ann", shared.RelationEdit, "n"))
	want := shared.JobCounts{Recalled: 84}
	preview, err := shared.PreviewJob(t.Context(), r, jobRequest(""), nil)
	if err != nil || !reflect.DeepEqual(preview.Counts, want) {
		t.Errorf("%+v %v", preview, err)
	}
	r.startJob(jobRequest("j"))
	if job := r.waitJob("j", hasEnded); !reflect.DeepEqual(job.Counts, want) {
		t.Errorf("%+v", job.Counts)
	}
	entries := r.ledger("j-1")
	if len(entries) != 84 {
		t.Errorf("the ledger has %d entries", len(entries))
	}
	for _, e := range entries {
		if e.Event.JobID != "j" {
			t.Errorf("%+v", e.Event)
		}
		if e.Event.Message.ID == "m" && (len(e.Event.Related) != 1 || e.Event.Related[0].MessageID != "quote") {
			t.Errorf("related to m: %+v", e.Event.Related)
		}
	}
}

const quotesOfTexts = `
permit "texts" {
  role   = ["system"]
  type   = ["text"]
  window = "7d"
}
on_recall {
  cascade = ["quote"]
}
`

// A message that is denied by itself counts as recalled if it goes with another one.
func TestStartJob_RecalledWithAnother(t *testing.T) {
	r := newActive(t, quotesOfTexts)
	picture := r.message("picture")
	picture.Type = shared.TypeImage
	quote := picture
	quote.ID, quote.Relations = "quote", []shared.Relation{{Kind: shared.RelationQuote, MessageID: "m"}}
	r.index(r.message("m"), quote, picture)
	req := request("r", "quote", "m", "picture")
	req.Targets[0].Role, req.Targets[1].Role, req.Targets[2].Role = shared.RoleSystem, shared.RoleSystem, shared.RoleSystem
	checked, err := r.Check(t.Context(), req)
	if err != nil || checked[0].Status != shared.StatusRecalled || !slices.Equal(checked[1].With, []string{"quote"}) ||
		checked[2].Status != shared.StatusDenied {
		t.Errorf("%+v %v", checked, err)
	}
	want := shared.JobCounts{Recalled: 2, Denied: map[shared.Code]int{shared.CodeForbidden: 1}}
	preview, err := shared.PreviewJob(t.Context(), r, jobRequest(""), nil)
	if err != nil || !reflect.DeepEqual(preview.Counts, want) {
		t.Errorf("%+v %v", preview, err)
	}
	r.startJob(jobRequest("j"))
	if job := r.waitJob("j", hasEnded); !reflect.DeepEqual(job.Counts, want) {
		t.Errorf("%+v", job.Counts)
	}
}

// What relates to a message and does not fit in the commit of its recall follows. A message that goes with one of those
// counts as recalled by the same job.
func TestStartJob_RecalledWithWhatFollows(t *testing.T) {
	r := newActive(t, quotesOfTexts)
	quoting := func(id, of, sender string) shared.Message {
		return r.related(id, sender, shared.RelationQuote, of)
	}
	msgs := []shared.Message{r.message("m"), quoting("q", "m", "ann")}
	for i := range shared.MaxRelated - 1 { // with q they are as many as are recalled with m in one commit
		msgs = append(msgs, quoting(fmt.Sprint("x", i), "m", "bob"))
	}
	r.index(append(msgs, quoting("r1", "q", "ann"), quoting("r2", "r1", "ann"))...)
	r.startJob(jobRequest("j"))
	job := r.waitJob("j", hasEnded)
	if want := (shared.JobCounts{Recalled: 4}); !reflect.DeepEqual(job.Counts, want) {
		t.Errorf("%+v", job.Counts)
	}
}

// failingLog is a log that refuses slices of jobs.
type failingLog struct {
	journal.Log
	fails func(ops []index.Op) error
}

func (l *failingLog) Append(ctx context.Context, ops []index.Op) ([]index.Result, error) {
	if ops[0].Job != nil && ops[0].Job.Slice != nil {
		if err := l.fails(ops); err != nil {
			return nil, err
		}
	}
	return l.Log.Append(ctx, ops)
}

// failSlices makes slices of jobs fail from here on. It is called before a job is started.
func (r *rig) failSlices(fails func(ops []index.Op) error) {
	r.active.log = &failingLog{Log: r.active.log, fails: fails}
}

func TestStartJob_CommitFails(t *testing.T) {
	r := newActive(t, openRules)
	r.index(r.message("m"))
	var left atomic.Int32
	left.Store(3)
	r.failSlices(func([]index.Op) error {
		if left.Add(-1) >= 0 {
			return shared.ErrOverloaded
		}
		return nil
	})
	ban := jobRequest("ban") // nothing else is indexed that would make it look again
	ban.Until = r.clock.Now().Add(time.Hour)
	r.startJob(ban)
	job := r.waitJob("ban", func(j shared.Job) bool { return j.Error != "" })
	if !strings.Contains(job.Error, "overloaded") {
		t.Errorf("%+v", job)
	}
	r.advanceUntil("ban", 10*time.Millisecond, func(j shared.Job) bool { return j.Counts.Recalled == 1 && j.Error == "" })
	if job := r.jobStatus("ban"); job.Examined != 1 {
		t.Errorf("%+v", job)
	}
	r.waitUntil(func() bool { return r.metric("recall_recalls_total", "status", "recalled") == 1 })
}

// What is too large for one commit goes in smaller slices.
func TestStartJob_LargeSlices(t *testing.T) {
	r := newActive(t, openRules)
	for i := range 40 {
		r.index(r.message(fmt.Sprint("m", i)))
	}
	var sizes []int
	r.failSlices(func(ops []index.Op) error {
		sizes = append(sizes, len(ops)-1)
		if len(ops) > 1+1 {
			return shared.Invalidf("targets", "too large")
		}
		return nil
	})
	r.startJob(jobRequest("j"))
	job := r.waitJob("j", hasEnded)
	if want := (shared.JobCounts{Recalled: 40}); !reflect.DeepEqual(job.Counts, want) || job.Examined != 40 {
		t.Errorf("%+v", job)
	}
	most := sliceMessages // a slice has fewer where the walk took all of its time
	for _, size := range sizes {
		if size > most {
			t.Errorf("slices of %v: one has more than %d", sizes, most)
		}
		if size > 1 {
			most /= 2
		} else {
			most = min(2*most, sliceMessages)
		}
	}
	if slices.Max(sizes) <= 1 {
		t.Errorf("slices of %v: none was too large", sizes)
	}
}

// Jobs of two tenants are two works, whatever their names are.
func TestJobName_IsOfOneJob(t *testing.T) {
	if a, b := jobName("z", "x of tenant y"), jobName("y of tenant z", "x"); a == b {
		t.Errorf("both are %q", a)
	}
}
