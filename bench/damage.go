package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/shared"
)

// damageBench damages every kind of file of an index in many ways, opens each with a real host, and holds every answer
// against what was written. A case is refused, harmless (every answer is right), or silent: an answer is wrong.
func damageBench(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("damage", flag.ContinueOnError)
	messages := whole(set, "messages", 30_000, 1000, "messages in the index, of which every second one is recalled")
	cases := whole(set, "cases", 440, 1, "about how many cases")
	seed := whole(set, "seed", 1, 0, "chooses the places that are damaged")
	verbose := set.Bool("verbose", false, "print every case")
	asJSON := set.Bool("json", false, "print one JSON object")
	if err := parse(set, args); err != nil {
		return err
	}
	dir, config, remove, err := workplace()
	if err != nil {
		return err
	}
	defer remove()
	start := time.Now()
	d := &damager{
		dir: dir, config: config, messages: *messages, verbose: *verbose,
		random: rand.New(rand.NewPCG(uint64(*seed), 0)),
	}
	if err := d.prepare(ctx); err != nil {
		return err
	}
	list, err := d.cases(*cases)
	if err != nil {
		return err
	}
	if err := d.run(ctx, list); err != nil {
		return err
	}
	result(*asJSON, []figure{
		{"cases", d.refused + d.harmless + d.silent}, {"refused", d.refused}, {"harmless", d.harmless}, {"silent", d.silent},
		{"refused_without_file", d.unnamed}, {"seconds", int(time.Since(start).Seconds())},
	})
	if d.silent > 0 || d.unnamed > 0 {
		return errBad
	}
	return nil
}

// damager has two copies of one index: as a kill leaves it, with a log, and after a compaction.
type damager struct {
	dir, config string
	messages    int
	random      *rand.Rand
	verbose     bool
	snapshots   []string // folders with index and index.marker
	other       string   // likewise, of another index
	older       string   // likewise, of this index with half of its messages

	mu                                 sync.Mutex
	refused, harmless, silent, unnamed int
}

// damageCase is one change of one file.
type damageCase struct {
	snapshot string
	file     string // in the snapshot
	name     string
	change   func(path string) error
}

const damageIDs = 1000 // of a call

func damageID(i int) string { return fmt.Sprintf("m%06d", i) }

var damageRoom = shared.Conversation{Type: shared.ConversationGroup, ID: "g"}

// prepare makes the snapshots.
func (d *damager) prepare(ctx context.Context) error {
	index := filepath.Join(d.dir, "index")
	snapshot := func(name string) (string, error) {
		to := filepath.Join(d.dir, "snapshot-"+name)
		return to, errors.Join(copySparse(index, filepath.Join(to, "index")),
			copySparse(index+".marker", filepath.Join(to, "index.marker")))
	}
	fill := func(from, to int) error {
		h, err := d.open(ctx, d.config)
		if err != nil {
			return err
		}
		defer h.Close()
		return d.fill(ctx, h, from, to)
	}
	clear := func() error {
		return errors.Join(os.RemoveAll(index), os.RemoveAll(index+".marker"),
			os.RemoveAll(filepath.Join(d.dir, "last-used.json")))
	}
	var err error
	progress("filling another index")
	if err := fill(0, 1000); err != nil {
		return err
	}
	if d.other, err = snapshot("other"); err != nil {
		return err
	}
	if err := clear(); err != nil {
		return err
	}
	progress("filling the index with %d messages", d.messages)
	if err := fill(0, d.messages/2); err != nil {
		return err
	}
	if d.older, err = snapshot("older"); err != nil {
		return err
	}
	h, err := d.open(ctx, d.config)
	if err != nil {
		return err
	}
	if err := d.fill(ctx, h, d.messages/2, d.messages); err != nil {
		return errors.Join(err, h.Close())
	}
	time.Sleep(3 * time.Second) // until what was flushed is in the list of verified tables
	killed, err := snapshot("killed")
	if err := errors.Join(err, h.Close()); err != nil {
		return err
	}
	db, err := openClosed(index)
	if err != nil {
		return err
	}
	if err := errors.Join(db.Flatten(1), db.Close()); err != nil {
		return err
	}
	for range 2 { // the list of verified tables has what Close made the next time
		if h, err = d.open(ctx, d.config); err != nil {
			return err
		}
		if err := h.Close(); err != nil {
			return err
		}
	}
	compacted, err := snapshot("compacted")
	d.snapshots = []string{killed, compacted}
	return err
}

func (d *damager) open(ctx context.Context, config string) (*host.Host, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return host.Open(ctx, host.Config{File: config, RunDir: filepath.Dir(config)}) // without steps: all stay as they are
}

func (d *damager) fill(ctx context.Context, h *host.Host, from, to int) error {
	for i := from; i < to; i += 500 {
		var batch []shared.Message
		for k := i; k < min(i+500, to); k++ {
			batch = append(batch, shared.Message{
				Tenant: tenant, ID: damageID(k), Conversation: damageRoom, Sender: fmt.Sprint("user-", k%100),
				Type: shared.TypeText, SentAt: speedStart.Add(time.Duration(k) * time.Millisecond),
				Attachments: []shared.Attachment{{Key: fmt.Sprint("file-", k)}},
			})
		}
		if _, err := h.Index(ctx, batch); err != nil {
			return err
		}
		for k := i; k < min(i+500, to); k += 200 {
			var targets []shared.Target
			for n := k; n < min(k+200, i+500, to); n += 2 {
				targets = append(targets, shared.Target{
					MessageID: damageID(n), Conversation: damageRoom, Role: shared.RoleAdmin,
				})
			}
			_, err := h.Recall(ctx, shared.RecallRequest{Tenant: tenant, Targets: targets, RecallID: fmt.Sprint("recall-", k),
				Actor: shared.Actor{ID: "admin"}, Ext: "ext"})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// run opens every case, two at a time.
func (d *damager) run(ctx context.Context, list []damageCase) error {
	workers := 2
	todo := make(chan damageCase)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(todo)
		for i, c := range list {
			if i%20 == 0 {
				progress("%d of %d cases", i, len(list))
			}
			select {
			case todo <- c:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for w := range workers {
		dir := filepath.Join(d.dir, fmt.Sprint("w", w))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		group.Go(func() error {
			for c := range todo {
				if err := d.try(ctx, dir, c); err != nil {
					return fmt.Errorf("%s %s: %w", c.file, c.name, err)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// try damages a copy of a snapshot in dir, opens it and asks for everything.
func (d *damager) try(ctx context.Context, dir string, c damageCase) error {
	for _, name := range []string{"index", "index.marker", "last-used.json"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(d.config)
	if err != nil {
		return err
	}
	config := filepath.Join(dir, "plugin.hcl")
	if err := errors.Join(os.WriteFile(config, text, 0o600), copySparse(c.snapshot, dir)); err != nil {
		return err
	}
	if err := c.change(filepath.Join(dir, c.file)); err != nil {
		return err
	}
	h, err := d.open(ctx, config)
	if err == nil {
		err = d.compare(ctx, h)
		_ = h.Close()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var wrong *wrongAnswerError
	outcome := "harmless"
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		d.harmless++
	case errors.As(err, &wrong):
		d.silent++
		outcome = "SILENT"
	default:
		d.refused++
		outcome = "refused"
		if !errors.Is(err, shared.ErrDamaged) {
			d.unnamed++
			outcome = "refused, and not as damage"
		}
	}
	if d.verbose || outcome != "harmless" && outcome != "refused" {
		progress("%s %s %s: %s %v", strings.TrimPrefix(filepath.Base(c.snapshot), "snapshot-"), c.file, c.name, outcome, err)
	}
	return nil
}

// wrongAnswerError is an answer that is not what was written.
type wrongAnswerError struct{ text string }

func (e *wrongAnswerError) Error() string { return e.text }

func wrongf(format string, args ...any) error { return &wrongAnswerError{fmt.Sprintf(format, args...)} }

// compare asks for every message, every event and some ledgers.
func (d *damager) compare(ctx context.Context, h *host.Host) error {
	for i := 0; i < d.messages; i += damageIDs {
		var list []string
		for k := i; k < min(i+damageIDs, d.messages); k++ {
			list = append(list, damageID(k))
		}
		status, err := h.Status(ctx, tenant, list)
		if err != nil {
			return err
		}
		for k, s := range status {
			want := shared.MessageLive
			if d.isRecalled(i + k) {
				want = shared.MessageRecalled
			}
			if s.State != want {
				return wrongf("message %d is %s, not %s", i+k, s.State, want)
			}
		}
	}
	events := map[string]bool{}
	req := shared.SinceRequest{Tenant: tenant, Conversations: []shared.Conversation{damageRoom}}
	for more := true; more; {
		page, err := h.Since(ctx, req)
		if err != nil {
			return err
		}
		for _, e := range page.Events {
			if e.Message.Sender == "" || e.Ext != "ext" || len(e.Attachments) != 1 {
				return wrongf("the event of %s is %+v", e.Message.ID, e)
			}
			events[e.Message.ID] = true
		}
		req.After, more = page.Next, page.More
	}
	want := 0
	for i := range d.messages {
		if d.isRecalled(i) {
			want++
		}
	}
	if len(events) != want {
		return wrongf("%d of %d events", len(events), want)
	}
	for i := 0; i < d.messages; i += 5000 {
		entries, err := shared.ReadLedger(ctx, h, tenant, fmt.Sprint("recall-", i))
		if err != nil {
			return err
		}
		if len(entries) != 100 {
			return wrongf("the ledger of recall-%d has %d entries", i, len(entries))
		}
	}
	return nil
}

// isRecalled tells whether fill recalled a message: in each 500, every second one, counted from each 200.
func (d *damager) isRecalled(i int) bool { return i%500%200%2 == 0 }
