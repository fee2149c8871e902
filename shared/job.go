package shared

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// JobFilter says which messages of a tenant a job recalls: those that match every field that is set. A job needs at
// least one.
type JobFilter struct {
	Sender       string        `json:"sender,omitempty"`
	Conversation *Conversation `json:"conversation,omitempty"`
	Types        []MessageType `json:"types,omitempty"`  // one of these; each once
	Labels       []string      `json:"labels,omitempty"` // all of these, on the message; at most MaxLabels
	From         time.Time     `json:"from,omitzero"`    // sent at this time or later
	Before       time.Time     `json:"before,omitzero"`  // sent before this time
}

// JobRequest asks to recall every message that matches a filter. As with a [RecallRequest], the plugin trusts
// everything in it.
//
// Each recall of a job is an ordinary one: the rules decide about each message, as of the start of the job, and each
// has its event, its ledger and its steps. The rules in force at that moment decide, so a change of the rules holds for
// the rest of a job. Limits of the rules hold too: a job that exhausts a limit waits until the limit permits the next
// recall, and then goes on.
type JobRequest struct {
	Tenant string `json:"tenant"`

	// JobID makes a retry the same job: to start a job again under its id, with the same request, changes nothing. At most
	// MaxJobIDBytes. If it is empty, package host makes one (UUIDv7). The recall ids of a job are the job id, "-" and a
	// number from 1.
	JobID string `json:"job_id,omitempty"`

	Filter JobFilter `json:"filter"`
	Actor  Actor     `json:"actor"`

	// Role is the role of the actor in Filter.Conversation; empty means RoleMember. Only a RoleSystem may leave the
	// conversation out.
	Role Role `json:"role,omitempty"`

	ConversationLabels []string `json:"conversation_labels,omitempty"` // as Target.Labels
	Reason             string   `json:"reason,omitempty"`              // as in RecallRequest
	Ext                string   `json:"ext,omitempty"`                 // as in RecallRequest

	// Until makes the job go on until this time, at most MaxJobUntil after its start, for a ban: it also recalls messages
	// that are indexed and sent before Until. They may be delivered before they are recalled, about a tenth of a second
	// later. Zero: the job ends with the messages that were indexed before it started.
	Until time.Time `json:"until,omitzero"`
}

// JobState says where a job stands.
type JobState string

// The states of a job.
const (
	JobRunning  JobState = "running"
	JobDone     JobState = "done"
	JobCanceled JobState = "canceled"
)

// JobCounts counts messages that match by what the rules answered.
type JobCounts struct {
	Recalled        int          `json:"recalled"`
	AlreadyRecalled int          `json:"already_recalled"`
	Denied          map[Code]int `json:"denied,omitempty"` // at most MaxJobCodes codes; further ones count as CodeOther
}

// CodeOther counts refusals whose code is not among the first MaxJobCodes of a job.
const CodeOther Code = "other"

// Add adds the counts of another part of the job.
func (c *JobCounts) Add(more JobCounts) {
	c.Recalled += more.Recalled
	c.AlreadyRecalled += more.AlreadyRecalled
	for _, code := range slices.Sorted(maps.Keys(more.Denied)) {
		c.Deny(code, more.Denied[code])
	}
}

// Deny counts n refusals with a code.
func (c *JobCounts) Deny(code Code, n int) {
	if c.Denied == nil {
		c.Denied = map[Code]int{}
	}
	if _, counted := c.Denied[code]; !counted && len(c.Denied) >= MaxJobCodes {
		code = CodeOther
	}
	c.Denied[code] += n
}

// Job is a bulk recall and how far it is.
type Job struct {
	Request   JobRequest `json:"request"`
	State     JobState   `json:"state"`
	StartedAt time.Time  `json:"started_at"`
	EndedAt   time.Time  `json:"ended_at,omitzero"`

	// Examined counts the messages of the tenant that the job has looked at; Total is an estimate of how many there are,
	// and 0 if there is none yet. The counts are those of the messages that match.
	Examined int       `json:"examined"`
	Total    int       `json:"total"`
	Counts   JobCounts `json:"counts"`

	// WaitingUntil is set while a limit of the rules makes the job wait. Error says why a job does not get on at the
	// moment; it tries again by itself. In a cluster only the node that runs the job knows these.
	WaitingUntil time.Time `json:"waiting_until,omitzero"`
	Error        string    `json:"error,omitempty"`
}

// JobsRequest asks for a page of the jobs of a tenant.
type JobsRequest struct {
	Tenant string   `json:"tenant"`
	State  JobState `json:"state,omitempty"` // empty: in any state
	After  string   `json:"after,omitempty"` // the Next of an earlier page; empty: from the newest job
	Limit  int      `json:"limit,omitempty"` // 1 to MaxJobsLimit; 0 means MaxJobsLimit
}

// JobPage is one page of jobs, the newest first.
type JobPage struct {
	Jobs  []Job  `json:"jobs"`
	Next  string `json:"next"` // After of the next request
	More  bool   `json:"more,omitempty"`
	Reset bool   `json:"reset,omitempty"` // as in EventPage
}

// JobPreviewRequest asks what a job would do now.
type JobPreviewRequest struct {
	Job   JobRequest `json:"job"`             // JobID may be empty
	After string     `json:"after,omitempty"` // the Next of an earlier page; empty: from the beginning
}

// JobPreview counts what the rules would answer for a part of the messages that match. A page is bounded by time, and
// may have examined messages of which none matches. All pages together have the counts of the messages that were
// indexed before the first page, as of the time of that page. Limits of the rules do not count: a job waits for them.
type JobPreview struct {
	Counts   JobCounts `json:"counts"`   // of this page
	Examined int       `json:"examined"` // on this page
	Total    int       `json:"total"`    // of all pages, an estimate; 0 if there is none yet
	Next     string    `json:"next"`     // After of the next request
	More     bool      `json:"more,omitempty"`
	Reset    bool      `json:"reset,omitempty"` // as in EventPage
}

// PreviewJob reads all pages of a preview and returns their sum. progress gets the sum so far after each page; it may
// be nil. If the index is restored or replaced meanwhile, the error is [ErrUnavailable].
func PreviewJob(ctx context.Context, from Recall, job JobRequest, progress func(JobPreview)) (JobPreview, error) {
	var sum JobPreview
	req := JobPreviewRequest{Job: job}
	for {
		page, err := from.PreviewJob(ctx, req)
		if err != nil {
			return JobPreview{}, err
		}
		if page.Reset {
			return JobPreview{}, fmt.Errorf("%w: the index was restored or replaced during the preview; start it again",
				ErrUnavailable)
		}
		sum.Counts.Add(page.Counts)
		sum.Examined += page.Examined
		sum.Total = max(page.Total, sum.Examined)
		if !page.More {
			sum.Total = sum.Examined
		}
		if progress != nil {
			progress(sum)
		}
		if !page.More {
			return sum, nil
		}
		req.After = page.Next
	}
}
