package clients_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/sidecar/sidecartest"
)

const (
	timeout = 30 // seconds, of a call that must succeed

	pulled = `step "notify" { pull = true }
step "history" { pull = true }`
)

type results struct {
	Results []struct {
		MessageID string `json:"message_id"`
		Status    string
		State     string
		RecallID  string `json:"recall_id"`
		Text      map[string]string
		Rules     []json.RawMessage
	}
	Now time.Time
}

type step struct {
	Step, Outcome, Error string
	Attempts             int
}

type entry struct {
	Event struct {
		Key     string
		Message struct{ ID string }
	}
	Steps []step
}

func message(id string) string {
	return fmt.Sprintf(`{"tenant":"acme","id":%q,"conversation":{"type":"group","id":"g1"},"sender":"ann","type":"text",`+
		`"sent_at":%q}`, id, time.Now().UTC().Format(time.RFC3339Nano))
}

// request asks to recall messages, as ann.
func request(recallID string, ids ...string) string {
	var targets []string
	for _, id := range ids {
		targets = append(targets, fmt.Sprintf(`{"message_id":%q,"conversation":{"type":"group","id":"g1"},"role":"member"}`,
			id))
	}
	more := ""
	if recallID != "" {
		more = fmt.Sprintf(`,"recall_id":%q`, recallID)
	}
	return fmt.Sprintf(`{"tenant":"acme","actor":{"id":"ann"},"targets":[%s]%s}`, strings.Join(targets, ","), more)
}

// statuses returns the status or state of each result.
func (r results) statuses() string {
	var list []string
	for _, one := range r.Results {
		list = append(list, one.Status+one.State)
	}
	return strings.Join(list, " ")
}

// must makes a call that succeeds.
func (d *driver) must(name, request string, result any) {
	d.t.Helper()
	if p := d.call(name, request, timeout, result); p != nil {
		d.t.Fatalf("%s %s: %+v", name, request, *p)
	}
}

func TestClients_EveryCall(t *testing.T) {
	each(t, func(t *testing.T, l language) {
		s := sidecartest.Start(t, pulled)
		d := drive(t, l, at{socket: s.Socket})
		expect := func(name, request, want string) (r results) {
			t.Helper()
			if d.must(name, request, &r); r.statuses() != want {
				t.Errorf("%s answers %q; want %q", name, r.statuses(), want)
			}
			return r
		}
		expect("index", fmt.Sprintf(`{"messages":[%s,%s,%s]}`, message("m1"), message("m2"), message("m3")),
			"indexed indexed indexed")
		expect("amend", `{"amendments":[{"tenant":"acme","message_id":"m1","labels":["pinned"]}]}`, "amended")
		expect("check", request("", "m1", "m9"), "recalled not_found")
		if r := expect("explain", request("", "m1"), ""); len(r.Results[0].Rules) == 0 {
			t.Error("explain tells no rules")
		}
		r := expect("recall", request("", "m1", "m2", "m9"), "recalled recalled not_found")
		recallID := r.Results[0].RecallID
		if recallID == "" || r.Now.IsZero() {
			t.Errorf("recall answers %+v", r)
		}
		expect("status", `{"tenant":"acme","ids":["m1","m3","m9"]}`, "recalled live unknown")

		var page struct {
			Events []json.RawMessage
			Next   string
			More   bool
			Reset  bool
		}
		const g1 = `"conversations":[{"type":"group","id":"g1"}]`
		d.must("since", `{"tenant":"acme",`+g1+`,"limit":1}`, &page)
		if len(page.Events) != 1 || !page.More || page.Reset {
			t.Errorf("the first page of since: %+v", page)
		}
		d.must("since", fmt.Sprintf(`{"tenant":"acme",%s,"after":%q}`, g1, page.Next), &page)
		if len(page.Events) != 1 || page.More {
			t.Errorf("the second page of since: %+v", page)
		}

		list := `{"tenant":"acme","actor":"ann","steps":"open","limit":1,"after":%q}`
		d.must("list", fmt.Sprintf(list, ""), &page)
		if len(page.Events) != 1 || !page.More || page.Reset {
			t.Errorf("the first page of list: %+v", page)
		}
		d.must("list", fmt.Sprintf(list, page.Next), &page)
		if len(page.Events) != 1 || page.More {
			t.Errorf("the second page of list: %+v", page)
		}

		var taken struct {
			Deliveries []struct {
				ID, Step string
				Attempt  int
			}
			Late []string
		}
		d.must("take", `{"steps":["notify"],"max":2,"wait":"20s"}`, &taken)
		for len(taken.Deliveries) == 1 { // the second one was not there yet
			first := taken.Deliveries[0]
			d.must("take", `{"steps":["notify"],"max":1,"wait":"20s"}`, &taken)
			taken.Deliveries = append(taken.Deliveries, first)
		}
		if len(taken.Deliveries) != 2 || taken.Deliveries[0].Attempt != 1 {
			t.Fatalf("take answers %+v", taken)
		}
		done := func(i int) string {
			return fmt.Sprintf(`{"settle":[{"id":%q,"outcome":"done"}]%%s}`, taken.Deliveries[i].ID)
		}
		d.must("settle", fmt.Sprintf(done(0), ""), &taken)
		d.must("take", fmt.Sprintf(done(1), `,"steps":["history"],"max":2,"wait":"20s"`), &taken)
		if len(taken.Late) > 0 || len(taken.Deliveries) == 0 || taken.Deliveries[0].Step != "history" {
			t.Errorf("take after settle answers %+v", taken)
		}
		var ledger []entry
		d.must("ledger", fmt.Sprintf(`{"tenant":"acme","recall_id":%q}`, recallID), &ledger)
		if len(ledger) != 2 {
			t.Fatalf("the ledger has %d entries: %+v", len(ledger), ledger)
		}
		for _, e := range ledger {
			if !slices.Contains(e.Steps, step{Step: "notify", Outcome: "done", Attempts: 1}) {
				t.Errorf("the ledger of %s: %+v", e.Event.Message.ID, e.Steps)
			}
		}
		if l.worker { // its ledger iterates over pages
			d.must("ledger", fmt.Sprintf(`{"tenant":"acme","recall_id":%q,"limit":1}`, recallID), &ledger)
			if len(ledger) != 2 {
				t.Errorf("the ledger in pages of one has %d entries", len(ledger))
			}
		}
	})
}

func TestClients_Jobs(t *testing.T) {
	each(t, func(t *testing.T, l language) {
		s := sidecartest.Start(t)
		d := drive(t, l, at{socket: s.Socket})
		d.must("index", fmt.Sprintf(`{"messages":[%s,%s]}`, message("m1"), message("m2")), nil)
		d.must("recall", request("r1", "m1"), nil)
		const asked = `"tenant":"acme","filter":{"sender":"ann"},"actor":{"id":"mod"},"role":"system"`
		type job struct {
			Request struct {
				JobID string `json:"job_id"`
			}
			State    string
			Examined int
			Counts   struct {
				Recalled        int
				AlreadyRecalled int `json:"already_recalled"`
				Denied          map[string]int
			}
		}
		preview, request := job{}, "{"+asked+"}"
		if !l.worker { // a client without methods for calls
			request = `{"job":` + request + "}"
		}
		d.must("jobs/preview", request, &preview)
		if preview.Examined != 2 || preview.Counts.Recalled != 1 || preview.Counts.AlreadyRecalled != 1 {
			t.Errorf("the preview is %+v", preview)
		}
		var started, again, status, canceled job
		d.must("jobs/start", "{"+asked+"}", &started)
		id := started.Request.JobID
		if id == "" || started.State == "" {
			t.Fatalf("start answers %+v", started)
		}
		d.must("jobs/start", fmt.Sprintf(`{%s,"job_id":%q}`, asked, id), &again)
		name := fmt.Sprintf(`{"tenant":"acme","job_id":%q}`, id)
		for status.State != "done" {
			d.must("jobs/status", name, &status)
		}
		if status.Counts.Recalled != 1 || status.Counts.AlreadyRecalled != 1 || status.Examined != 2 {
			t.Errorf("the job is %+v", status)
		}
		var page struct {
			Jobs []job
			More bool
		}
		d.must("jobs/list", `{"tenant":"acme","state":"done"}`, &page)
		if len(page.Jobs) != 1 || page.Jobs[0].Request.JobID != id || page.More {
			t.Errorf("list answers %+v", page)
		}
		if d.must("jobs/cancel", name, &canceled); canceled.State != "done" {
			t.Errorf("cancel answers %+v", canceled)
		}
		if p := d.call("jobs/status", `{"tenant":"acme","job_id":"none"}`, timeout, nil); p == nil || p.Status != 400 ||
			len(p.Errors) != 1 || p.Errors[0].Field != "job_id" {
			t.Errorf("the status of no job: %+v", p)
		}
	})
}

// A refused call names the field.
func TestClients_InvalidField(t *testing.T) {
	each(t, func(t *testing.T, l language) {
		s := sidecartest.Start(t)
		p := drive(t, l, at{socket: s.Socket}).call("check", request(""), timeout, nil)
		if p == nil || p.Status != 400 || p.Code != "invalid_argument" || p.Detail == "" || p.RequestID == "" ||
			len(p.Errors) != 1 || p.Errors[0].Field != "targets" {
			t.Errorf("the error is %+v", p)
		}
	})
}

func TestClients_Token(t *testing.T) {
	each(t, func(t *testing.T, l language) {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := free.Addr().String()
		_ = free.Close()
		dir := t.TempDir()
		write := func(name, token string) string {
			t.Helper()
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		right, wrong := strings.Repeat("right", 8), strings.Repeat("wrong", 8)
		tokens := write("tokens", right)
		sidecartest.Start(t, fmt.Sprintf("listen \"tcp\" {\n  address    = %q\n  token_file = %q\n}", address, tokens))
		own := write("own", wrong)
		d := drive(t, l, at{url: "http://" + address, tokenFile: own})
		const status = `{"tenant":"acme","ids":["m1"]}`
		if p := d.call("status", status, timeout, nil); p == nil || p.Status != 401 {
			t.Errorf("the error is %+v", p)
		}
		write("own", right) // it is read for each request
		d.must("status", status, nil)
	})
}

// Calls succeed over restarts of the sidecar.
func TestClients_Restart(t *testing.T) {
	each(t, func(t *testing.T, l language) {
		s := sidecartest.Start(t)
		d := drive(t, l, at{socket: s.Socket})
		for i, end := range []func(){s.Stop, s.Kill} {
			d.must("status", `{"tenant":"acme","ids":["m1"]}`, nil) // leaves a connection
			end()
			started := make(chan struct{})
			go func() { // the call begins before the sidecar does
				defer close(started)
				d.must("index", fmt.Sprintf(`{"messages":[%s]}`, message(fmt.Sprint("m", i))), nil)
			}()
			s.Start()
			<-started
		}
		var r results
		if d.must("status", `{"tenant":"acme","ids":["m0","m1"]}`, &r); r.statuses() != "live live" {
			t.Errorf("status answers %q", r.statuses())
		}
	})
}
