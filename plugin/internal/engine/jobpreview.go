package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/rules"
	"github.com/chat-recall/recall/shared"
)

// PreviewJob is [shared.Recall].
func (e *Engine) PreviewJob(ctx context.Context, req shared.JobPreviewRequest) (shared.JobPreview, error) {
	a, leave, err := e.enter()
	if err != nil {
		return shared.JobPreview{}, err
	}
	defer leave()
	if err := wire.ValidatePreview(&req); err != nil {
		return shared.JobPreview{}, err
	}
	p, void, err := e.previewAt(a, req.After)
	if err != nil || void {
		return shared.JobPreview{Reset: void}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.stop, cancel)() // Quiesce does not wait for it
	var page shared.JobPreview
	var pause time.Duration
	asked := e.asked.Load()
	for began := e.clock.Elapsed(); ; {
		slice := time.Now()
		walked, err := a.index.Walk(ctx, walkOf(&req.Job, p.at, p.end))
		if err == nil {
			err = e.previewSlice(a, &req.Job, p.asked, walked.Found, &page.Counts)
		}
		if err != nil {
			if e.stop.Err() != nil {
				err = e.unavailable()
			}
			return shared.JobPreview{}, fmt.Errorf("preview the job: %w", err)
		}
		e.counts.examined.Add(float64(walked.Examined))
		page.Examined += walked.Examined
		p.at, p.examined, page.More = walked.Next, p.examined+walked.Examined, walked.More
		if !page.More || e.clock.Elapsed()-began >= previewTime {
			break
		}
		pause, asked = e.pauseAfter(time.Since(slice), asked)
		select {
		case <-ctx.Done():
			return shared.JobPreview{}, ctx.Err()
		case <-time.After(pause):
		}
	}
	page.Next, page.Total = p.cursor(a), p.examined
	if page.More {
		page.Total = index.EstimateTotal(p.examined, p.at, p.end)
	}
	return page, nil
}

// preview is where a preview goes on.
type preview struct {
	at       index.Place
	end      uint64    // position of the last group that was there at its first page
	asked    time.Time // when that was
	examined int       // messages so far
}

func (e *Engine) previewAt(a *active, cursor string) (p preview, void bool, err error) {
	if cursor == "" {
		p.asked = e.now()
		if p.end, err = a.index.LastGroup(); err != nil {
			return p, false, fmt.Errorf("preview the job: %w", err)
		}
		return p, false, nil
	}
	n, void, err := a.index.ParseCursor(cursor, 5)
	if err != nil || void {
		return p, void, err
	}
	return preview{
		at: index.Place{Position: n[0], Offset: int(n[1])}, end: n[2], asked: time.UnixMicro(int64(n[3])).UTC(),
		examined: int(n[4]),
	}, false, nil
}

func (p *preview) cursor(a *active) string {
	return a.index.Cursor(p.at.Position, uint64(p.at.Offset), p.end, uint64(p.asked.UnixMicro()), uint64(p.examined))
}

// previewSlice counts what the rules answer for messages that a walk found.
func (e *Engine) previewSlice(a *active, job *shared.JobRequest, asked time.Time, found []index.Found,
	counts *shared.JobCounts) error {
	var ids []string
	for _, f := range found {
		switch {
		case !matches(&job.Filter, &f.Message):
		case f.Tombstone != nil:
			counts.AlreadyRecalled++
		default:
			ids = append(ids, f.Message.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	now := e.moment()
	withoutLimits := func(p *rules.Policy, in *rules.Input) (rules.Decision, rules.Reservation) {
		return p.Decide(in), rules.Reservation{}
	}
	v, err := a.judge(requestOf(job, "preview", asked, now, ids), now, withoutLimits, noCancel)
	if err != nil {
		return err
	}
	v.recalledWith()
	for i := range v.results {
		count(counts, &v.results[i])
	}
	return nil
}
