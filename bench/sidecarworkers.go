package main

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"

	"github.com/chat-recall/recall/shared"
)

const (
	failEvery = 10 // of so many steps, one fails at its first attempt
	dieEvery  = 20 // of so many takes, one is not settled: its worker dies with it
)

// onPurpose is why it fails.
const onPurpose = "on purpose"

// workKey is one step of one event.
type workKey struct{ event, step string }

// soakWorkers carry out the steps of a soak. They keep what they did and what the sidecar acknowledged.
type soakWorkers struct {
	mu     sync.Mutex
	ran    map[workKey]int  // how often it was carried out
	acked  map[workKey]bool // its outcome was settled, and that was answered
	failed map[workKey]bool // its first attempt failed on purpose

	died, settled, faults int // settled: steps that the ledger has as done
}

func newSoakWorkers() *soakWorkers {
	return &soakWorkers{ran: map[workKey]int{}, acked: map[workKey]bool{}, failed: map[workKey]bool{}}
}

func (w *soakWorkers) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults++
	progress(format, args...)
}

// run carries out one step. It returns false if it fails on purpose.
func (w *soakWorkers) run(k workKey) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(k.event + k.step))
	w.mu.Lock()
	defer w.mu.Unlock()
	if h.Sum32()%failEvery == 0 && !w.failed[k] {
		w.failed[k] = true
		return false
	}
	w.ran[k]++
	if k.step == shared.StepHistory && w.ran[workKey{k.event, shared.StepNotify}] == 0 {
		w.faults++
		progress("%s was delivered before notify", k)
	}
	return true
}

// work is one worker after another: each takes steps and settles them with its next call, until one dies in between.
func (w *soakWorkers) work(ctx context.Context, client *jsonClient, j *journal) {
	next := take{Steps: []string{shared.StepNotify, shared.StepHistory}, Max: maxTake, Wait: "1s"}
	for ctx.Err() == nil {
		got, err := client.take(ctx, next)
		if err != nil {
			if ctx.Err() == nil {
				w.fault("take: %v", err)
			}
			return
		}
		w.acknowledged(next.Settle, got.Late)
		next.Settle = nil
		for _, d := range got.Deliveries {
			k := workKey{d.Event.Key(), d.Step}
			switch {
			case !w.run(k):
				next.Settle = append(next.Settle, verdict{d.ID, shared.OutcomeFailed, onPurpose, k})
				continue
			case d.Step == shared.StepNotify:
				j.ran(d.Event.Message.ID)
			}
			next.Settle = append(next.Settle, verdict{d.ID, shared.OutcomeDone, "", k})
		}
		if rand.N(dieEvery) == 0 && len(next.Settle) > 0 {
			next.Settle = nil
			w.mu.Lock()
			w.died++
			w.mu.Unlock()
		}
	}
}

// acknowledged notes which outcomes are on disk.
func (w *soakWorkers) acknowledged(list []verdict, late []string) {
	for _, v := range list {
		if v.Outcome != shared.OutcomeDone {
			continue
		}
		if slices.Contains(late, v.ID) {
			w.fault("%s is done and was answered late", v.ID)
			continue
		}
		w.mu.Lock()
		w.acked[v.key] = true
		w.mu.Unlock()
	}
}

// ServeHTTP carries out the step of a webhook.
func (w *soakWorkers) ServeHTTP(to http.ResponseWriter, r *http.Request) {
	var body struct {
		Data leased `json:"data"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		w.fault("a webhook has the body %v", err)
	}
	if !w.run(workKey{body.Data.Event.Key(), body.Data.Step}) {
		http.Error(to, onPurpose, http.StatusServiceUnavailable)
		return
	}
	to.WriteHeader(http.StatusNoContent)
}

// verify holds what the workers did against the ledger of every recall that was answered.
func (w *soakWorkers) verify(ctx context.Context, from shared.Recall, j *journal) error {
	left := maps.Clone(w.ran)
	for _, recallID := range j.recalls {
		entries, err := shared.ReadLedger(ctx, from, tenant, recallID)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			w.fault("the recall %s is not recorded", recallID)
		}
		for _, e := range entries {
			for _, name := range []string{shared.StepNotify, shared.StepHistory, searchStep} {
				k := workKey{e.Event.Key(), name}
				i := slices.IndexFunc(e.Steps, func(s shared.StepRecord) bool { return s.Step == name })
				done := i >= 0 && e.Steps[i].Outcome == shared.OutcomeDone
				switch {
				case !done && w.acked[k]:
					w.fault("%s of %s was acknowledged and is not recorded", name, recallID)
				case !done:
					w.fault("%s of %s is not done", name, recallID)
				case w.ran[k] == 0:
					w.fault("%s of %s is recorded as done, and nobody did it", name, recallID)
				default:
					w.settled++
				}
				delete(left, k)
			}
		}
	}
	for k := range left {
		w.fault("%s was carried out for no recall", k)
	}
	return nil
}

// repeated is how many steps were carried out more than once, since an outcome was lost with the sidecar or a worker.
func (w *soakWorkers) repeated() (n int) {
	for _, times := range w.ran {
		if times > 1 {
			n++
		}
	}
	return n
}
