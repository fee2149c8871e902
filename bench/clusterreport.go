package main

import (
	"fmt"
	"time"
)

// clusterReport is what one run has found. Everything but the counts of what was done must be 0, false or empty, and
// IndexesEqual true.
type clusterReport struct {
	Fault string `json:"fault"`
	Acked int    `json:"acked"` // messages
	Raced int    `json:"raced"` // messages that were recalled on every node at once

	Lost             int  `json:"lost"`              // acknowledged messages and recalls that a node does not have
	WinnersDiffer    int  `json:"winners_differ"`    // messages of which nodes or callers say that different recalls won
	EventsLost       int  `json:"events_lost"`       // recalls without an event, or with steps that did not run
	OrderDiffers     int  `json:"order_differs"`     // events that are not in the same place on all nodes
	NotifyMissing    int  `json:"notify_missing"`    // events of which a node was never notified, by node
	NotifyLate       int  `json:"notify_late"`       // events of which a node was notified after another step had run
	Duplicates       int  `json:"duplicates"`        // runs of a step of one node for which nothing accounts
	AttachmentsWrong int  `json:"attachments_wrong"` // that were not released, too early, or twice
	IndexesEqual     bool `json:"indexes_equal"`     // all keys and values of all nodes

	Repeated int `json:"repeated"`  // runs of a step of one node that a crash or a takeover accounts for
	HeldBack int `json:"held_back"` // events whose other steps went on after 30 s without notify
	Retries  int `json:"retries"`   // calls that clients made again

	StallIndex  float64 `json:"stall_index_s"` // longest time without any acknowledgement
	StallRecall float64 `json:"stall_recall_s"`
	Seconds     float64 `json:"seconds"`

	Failed   []string `json:"failed"` // what is wrong, with ids; the first maxFailed
	failures int
}

const maxFailed = 40

// fail adds what is wrong, to one of the counts if there is one for it.
func (r *clusterReport) fail(count *int, format string, args ...any) {
	if count != nil {
		*count++
	}
	if r.failures++; len(r.Failed) < maxFailed {
		r.Failed = append(r.Failed, fmt.Sprintf(format, args...))
	}
}

// isGood reports whether the run has shown no failure, and anything at all.
func (r *clusterReport) isGood() bool { return r.failures == 0 && r.Acked > 0 && r.Raced > 0 }

// print prints the report for a person.
func (r *clusterReport) print() {
	word := "good"
	if !r.isGood() {
		word = fmt.Sprintf("%d failures", r.failures)
	}
	progress("%-16s %s: %d acked, %d raced, lost %d, winners differ %d, events lost %d, order differs %d, "+
		"notify missing %d, late %d, duplicates %d (and %d explained), attachments wrong %d, held back %d, "+
		"indexes equal %v, %d retries, stalls %.1f s and %.1f s, %.0f s in all",
		r.Fault, word, r.Acked, r.Raced, r.Lost, r.WinnersDiffer, r.EventsLost, r.OrderDiffers, r.NotifyMissing,
		r.NotifyLate, r.Duplicates, r.Repeated, r.AttachmentsWrong, r.HeldBack, r.IndexesEqual, r.Retries, r.StallIndex,
		r.StallRecall, r.Seconds)
	for _, line := range r.Failed {
		progress("  %s", line)
	}
}

// addLoad adds what the clients saw.
func (r *clusterReport) addLoad(l *clusterLoad) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.messages {
		if m.node != nil {
			r.Acked++
		}
		if m.winner != "" {
			r.Raced++
		}
	}
	for _, line := range l.failures {
		r.fail(nil, "%s", line)
	}
	r.Lost, r.WinnersDiffer, r.Retries = l.lost, l.winnersDiffer, l.retries
	r.StallIndex, r.StallRecall = tenths(l.index.longest), tenths(l.recall.longest)
}

func tenths(d time.Duration) float64 { return d.Round(100 * time.Millisecond).Seconds() }
