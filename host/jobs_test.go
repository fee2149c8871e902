package host_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/internal/natscluster/natstest"
	"github.com/chat-recall/recall/shared"
)

// jobRules permit the system to recall texts of the last day that are not on hold.
const jobRules = `
permit "system" {
  role   = ["system"]
  type   = ["text"]
  window = "1d"
}
forbid "hold" {
  when = contains(message.labels, "hold")
  code = "on_hold"
}
`

func openForJobs(t *testing.T, steps map[string]host.Step) *host.Host {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "rules.hcl")
	if err := os.WriteFile(file, []byte(jobRules), 0o600); err != nil {
		t.Fatal(err)
	}
	return hosttest.Open(t, host.Config{
		Steps: steps, Index: host.IndexConfig{Path: filepath.Join(dir, "index")},
		Rules: host.RulesConfig{Paths: []string{file}},
	})
}

// jobOf is a job of the system over what a sender sent.
func jobOf(tenant, id, sender string) shared.JobRequest {
	return shared.JobRequest{
		Tenant: tenant, JobID: id, Filter: shared.JobFilter{Sender: sender}, Actor: shared.Actor{ID: "mod"},
		Role: shared.RoleSystem, Reason: "spam",
	}
}

// waitJob waits until a job has ended, and calls meanwhile with each state of it.
func waitJob(t *testing.T, h *host.Host, tenant, id string, meanwhile func(shared.Job)) shared.Job {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		job, err := h.JobStatus(t.Context(), tenant, id)
		if err != nil {
			t.Fatal(err)
		}
		if job.State != shared.JobRunning {
			return job
		}
		if time.Now().After(end) {
			t.Fatalf("the job does not end: %+v", job)
		}
		if meanwhile != nil {
			meanwhile(job)
		}
	}
}

// A plugin that is killed again and again does what one does that is not.
func TestStartJob_KilledAtAnyMoment(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var mu sync.Mutex
	noticed := map[string]int{}
	notify := func(_ context.Context, d shared.Delivery) (shared.Outcome, error) {
		mu.Lock()
		defer mu.Unlock()
		noticed[d.Event.Key()]++
		return shared.OutcomeDone, nil
	}
	h := openForJobs(t, map[string]host.Step{shared.StepNotify: {Run: notify}})
	const count = 3000
	want := map[string]*shared.JobCounts{"acme": {}, "other": {}}
	recalled := map[string][]string{}
	for tenant, counts := range want {
		var msgs []shared.Message
		for i := range count {
			m := shared.Message{
				Tenant: tenant, ID: fmt.Sprint("m", i), Sender: []string{"ann", "bob"}[r.IntN(2)], Type: shared.TypeText,
				Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: fmt.Sprint("g", r.IntN(3))},
				SentAt:       time.Now().Add(-time.Duration(r.IntN(30)) * time.Hour),
			}
			switch age := time.Since(m.SentAt); {
			case r.IntN(10) == 0:
				m.Labels = []string{"hold"}
				if m.Sender == "ann" {
					counts.Deny("on_hold", 1)
				}
			case r.IntN(10) == 0:
				m.Type = shared.TypeImage
				if m.Sender == "ann" {
					counts.Deny(shared.CodeForbidden, 1)
				}
			case m.Sender != "ann":
			case age > 24*time.Hour:
				counts.Deny(shared.CodeWindowExpired, 1)
			default:
				counts.Recalled++
				recalled[tenant] = append(recalled[tenant], m.ID)
			}
			if msgs = append(msgs, m); len(msgs) == 500 {
				if _, err := h.Index(t.Context(), msgs); err != nil {
					t.Fatal(err)
				}
				msgs = nil
			}
		}
	}
	for tenant, counts := range want {
		preview, err := shared.PreviewJob(t.Context(), h, jobOf(tenant, "", "ann"), nil)
		if err != nil || !reflect.DeepEqual(preview.Counts, *counts) || preview.Examined != count {
			t.Errorf("the preview of %s is %+v %v, want %+v", tenant, preview, err, *counts)
		}
		if _, err := h.StartJob(t.Context(), jobOf(tenant, "j", "ann")); err != nil {
			t.Fatal(err)
		}
	}
	kills, next := 0, 0
	for tenant, counts := range want {
		job := waitJob(t, h, tenant, "j", func(job shared.Job) {
			if kills == 12 || job.Examined < next && kills > 0 {
				return
			}
			time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond) // any moment will do
			if pid := h.State().PID; pid != 0 {
				hosttest.Kill(t, h)
				kills, next = kills+1, (job.Examined+r.IntN(count/4))%count
			}
			// repeating the start is a way to wait until the plugin answers again
			if again, err := h.StartJob(t.Context(), jobOf(tenant, "j", "ann")); err != nil || again.Examined < job.Examined {
				t.Errorf("after a kill: %+v %v, was %+v", again, err, job)
			}
		})
		if job.State != shared.JobDone || !reflect.DeepEqual(job.Counts, *counts) || job.Examined != count ||
			job.Total != count {
			t.Errorf("%s: %+v, want %+v", tenant, job, *counts)
		}
		var ids []string
		for _, event := range listed(t, h, shared.ListRequest{Tenant: tenant}) {
			if ids = append(ids, event.Message.ID); event.JobID != "j" || event.Reason != "spam" ||
				!event.RecalledAt.Equal(job.StartedAt) {
				t.Errorf("%+v", event)
			}
		}
		slices.Sort(ids)
		slices.Sort(recalled[tenant])
		if !slices.Equal(ids, recalled[tenant]) {
			t.Errorf("%s: %d events, want %d", tenant, len(ids), len(recalled[tenant]))
		}
		entries, err := shared.ReadLedger(t.Context(), h, tenant, "j-1")
		if err != nil || len(entries) != counts.Recalled {
			t.Errorf("the ledger of %s has %d entries: %v", tenant, len(entries), err)
		}
	}
	if kills < 2 {
		t.Errorf("the plugin was killed %d times", kills)
	}
	for _, tenant := range slices.Sorted(maps.Keys(want)) {
		if err := h.Wait(t.Context(), tenant, "j-1"); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if n := want["acme"].Recalled + want["other"].Recalled; len(noticed) != n {
		t.Errorf("%d notices, want %d", len(noticed), n)
	}
}

// A ban recalls what arrives until its end, from many callers, and nothing else.
func TestStartJob_BanWhileManyIndex(t *testing.T) {
	h := openForJobs(t, nil)
	ban := jobOf("acme", "ban", "ann")
	ban.Until = time.Now().Add(3 * time.Second)
	if _, err := h.StartJob(t.Context(), ban); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	sent, indexed := map[string]shared.Message{}, map[string]time.Time{}
	var callers sync.WaitGroup
	for caller := range 8 {
		callers.Go(func() {
			for i := 0; time.Now().Before(ban.Until.Add(time.Second)); i++ {
				m := shared.Message{
					Tenant: "acme", ID: fmt.Sprint(caller, "-", i), Sender: []string{"ann", "bob"}[i%2], Type: shared.TypeText,
					Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"}, SentAt: time.Now(),
				}
				if _, err := h.Index(t.Context(), []shared.Message{m}); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				sent[m.ID], indexed[m.ID] = m, time.Now()
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	job := waitJob(t, h, "acme", "ban", nil)
	ids := slices.Sorted(maps.Keys(sent))
	recalled := 0
	for chunk := range slices.Chunk(ids, shared.MaxStatusIDs) {
		statuses, err := h.Status(t.Context(), "acme", chunk)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range statuses {
			m, is := sent[s.MessageID], s.State == shared.MessageRecalled
			if is {
				recalled++
			}
			switch {
			case m.Sender != "ann" && is:
				t.Errorf("%s by %s was recalled", m.ID, m.Sender)
			case m.Sender == "ann" && !is && indexed[m.ID].Before(ban.Until):
				t.Errorf("%s was indexed %s before the end and was not recalled", m.ID, ban.Until.Sub(indexed[m.ID]))
			case m.Sender == "ann" && is && !m.SentAt.Before(ban.Until):
				t.Errorf("%s was sent %s after the end and was recalled", m.ID, m.SentAt.Sub(ban.Until))
			}
		}
	}
	if job.State != shared.JobDone || job.Counts.Recalled != recalled || recalled == 0 {
		t.Errorf("%+v, and %d of %d messages are recalled", job, recalled, len(sent))
	}
}

// An upgrade hands a job over.
func TestStartJob_Upgrade(t *testing.T) {
	h := openForJobs(t, nil)
	const count = 4000
	for first := 0; first < count; first += 500 {
		var msgs []shared.Message
		for i := range 500 {
			msgs = append(msgs, shared.Message{
				Tenant: "acme", ID: fmt.Sprint("m", first+i), Sender: "ann", Type: shared.TypeText, SentAt: time.Now(),
				Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"},
			})
		}
		if _, err := h.Index(t.Context(), msgs); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.StartJob(t.Context(), jobOf("acme", "", "ann")); err != nil {
		t.Fatal(err)
	}
	page, err := h.Jobs(t.Context(), shared.JobsRequest{Tenant: "acme"})
	if err != nil || len(page.Jobs) != 1 || page.Jobs[0].Request.JobID == "" {
		t.Fatalf("%+v %v", page, err)
	}
	id := page.Jobs[0].Request.JobID
	for range 2 {
		if _, err := h.Upgrade(t.Context(), host.Binary{Path: hosttest.BuildPlugin(t)}); err != nil {
			t.Fatal(err)
		}
	}
	job := waitJob(t, h, "acme", id, nil)
	if job.Counts.Recalled != count || job.Counts.AlreadyRecalled != 0 || job.Examined != count {
		t.Errorf("%+v", job)
	}
}

func TestCancelJob_ThroughTheHost(t *testing.T) {
	h := openForJobs(t, nil)
	ban := jobOf("acme", "ban", "ann")
	ban.Until = time.Now().Add(time.Hour)
	if _, err := h.StartJob(t.Context(), ban); err != nil {
		t.Fatal(err)
	}
	job, err := h.CancelJob(t.Context(), "acme", "ban")
	if err != nil || job.State != shared.JobCanceled {
		t.Fatalf("%+v %v", job, err)
	}
	m := shared.Message{
		Tenant: "acme", ID: "m", Sender: "ann", Type: shared.TypeText, SentAt: time.Now(),
		Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"},
	}
	if _, err := h.Index(t.Context(), []shared.Message{m}); err != nil {
		t.Fatal(err)
	}
	hosttest.Kill(t, h) // what runs afterwards knows only what is on disk
	if job, err := h.JobStatus(t.Context(), "acme", "ban"); err != nil || job.State != shared.JobCanceled {
		t.Errorf("%+v %v", job, err)
	}
	if s, err := h.Status(t.Context(), "acme", []string{"m"}); err != nil || s[0].State != shared.MessageLive {
		t.Errorf("%+v %v", s, err)
	}
}

// A job in a cluster goes on wherever a plugin is killed, and counts each message once.
func TestCluster_JobWhilePluginsAreKilled(t *testing.T) {
	servers := natstest.Start(t, 1, nil)
	nodes := []*chatNode{
		startChatNode(t, servers, "n0", "replicas = 1"), startChatNode(t, servers, "n1", "replicas = 1"),
		startChatNode(t, servers, "n2", "replicas = 1"),
	}
	const count = 1500
	for first := 0; first < count; first += 500 {
		var msgs []shared.Message
		for i := range 500 {
			msgs = append(msgs, shared.Message{
				Tenant: "acme", ID: fmt.Sprint("m", first+i), Sender: "ann", Type: shared.TypeText, SentAt: time.Now(),
				Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"},
			})
		}
		if _, err := nodes[first/500].Index(t.Context(), msgs); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := nodes[0].StartJob(t.Context(), jobOf("acme", "j", "ann")); err != nil {
		t.Fatal(err)
	}
	kills, next := 0, 0
	job := waitJob(t, nodes[1].Host, "acme", "j", func(job shared.Job) {
		if kills < 4 && job.Examined >= next {
			if n := nodes[kills%3]; n.State().PID != 0 {
				hosttest.Kill(t, n.Host)
			}
			kills, next = kills+1, job.Examined+count/6
		}
	})
	want := shared.JobCounts{Recalled: count}
	if job.State != shared.JobDone || !reflect.DeepEqual(job.Counts, want) || job.Examined != count {
		t.Errorf("%+v", job)
	}
	for _, n := range nodes {
		eventually(t, n.name+" has it, too", func() bool {
			job, err := n.JobStatus(t.Context(), "acme", "j")
			return err == nil && job.State == shared.JobDone
		})
		entries, err := shared.ReadLedger(t.Context(), n, "acme", "j-1")
		if err != nil || len(entries) != count {
			t.Errorf("the ledger of %s has %d entries: %v", n.name, len(entries), err)
		}
	}
}

// A node whose plugin knows no jobs keeps them from being started, by name.
func TestCluster_JobNeedsNewPlugins(t *testing.T) {
	servers := natstest.Start(t, 1, nil)
	now := startChatNode(t, servers, "n0", "replicas = 1")
	startChatNodeOf(t, hosttest.BuildFaulty(t, "old-format"), servers, "n1", "replicas = 1")
	eventually(t, "the first node knows the second one", func() bool {
		c := now.State().Cluster
		return c != nil && len(c.Members) == 2
	})
	_, err := now.StartJob(t.Context(), jobOf("acme", "j", "ann"))
	if !errors.Is(err, shared.ErrUnavailable) || !strings.Contains(err.Error(), "n1") {
		t.Errorf("%v", err)
	}
}
