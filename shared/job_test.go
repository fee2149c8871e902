package shared

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
)

// previews answers the pages of a preview.
type previews struct {
	api
	pages map[string]JobPreview
	asked []string
}

func (p *previews) PreviewJob(_ context.Context, req JobPreviewRequest) (JobPreview, error) {
	p.asked = append(p.asked, req.After)
	page, ok := p.pages[req.After]
	if !ok || req.Job.Tenant != "acme" {
		return JobPreview{}, errors.New("broken")
	}
	return page, nil
}

func TestPreviewJob(t *testing.T) {
	p := &previews{pages: map[string]JobPreview{
		"": {
			Counts: JobCounts{Recalled: 1, Denied: map[Code]int{"a": 1}}, Examined: 10, Total: 25, Next: "1", More: true,
		},
		"1": {Examined: 10, Total: 15, Next: "2", More: true},
		"2": {
			Counts: JobCounts{Recalled: 2, AlreadyRecalled: 3, Denied: map[Code]int{"a": 1, "b": 4}}, Examined: 10, Total: 40,
			Next: "3",
		},
	}}
	var totals []int
	got, err := PreviewJob(t.Context(), p, JobRequest{Tenant: "acme"}, func(soFar JobPreview) {
		totals = append(totals, soFar.Total)
	})
	want := JobPreview{
		Counts:   JobCounts{Recalled: 3, AlreadyRecalled: 3, Denied: map[Code]int{"a": 2, "b": 4}},
		Examined: 30, Total: 30,
	}
	if err != nil || !reflect.DeepEqual(got, want) || fmt.Sprint(p.asked) != "[ 1 2]" ||
		fmt.Sprint(totals) != "[25 20 30]" {
		t.Errorf("%+v %v, asked %q, totals %v", got, err, p.asked, totals)
	}
	if _, err := PreviewJob(t.Context(), p, JobRequest{Tenant: "other"}, nil); err == nil {
		t.Error("an error of a page is lost")
	}
	p.pages["1"] = JobPreview{Reset: true}
	if _, err := PreviewJob(t.Context(), p, JobRequest{Tenant: "acme"}, nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a reset on the way: %v", err)
	}
}

func TestJobCounts_Deny(t *testing.T) {
	var c JobCounts
	for i := range MaxJobCodes + 10 {
		c.Deny(Code(fmt.Sprint(i)), 2)
	}
	c.Deny("3", 1) // one that is counted
	if len(c.Denied) != MaxJobCodes+1 || c.Denied[CodeOther] != 20 || c.Denied["3"] != 3 {
		t.Errorf("%d codes, %d others, %d", len(c.Denied), c.Denied[CodeOther], c.Denied["3"])
	}
	var sum JobCounts
	sum.Add(JobCounts{Recalled: 1, AlreadyRecalled: 2, Denied: map[Code]int{"3": 4}})
	sum.Add(c)
	if sum.Recalled != 1 || sum.AlreadyRecalled != 2 || sum.Denied["3"] != 7 {
		t.Errorf("%+v", sum)
	}
}
