package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/chat-recall/recall/internal/problem"
	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/sidecar/internal/api"
	"github.com/chat-recall/recall/sidecar/internal/config"
)

const (
	// exportPatience is how long a page is asked for while the sidecar does not answer, as long as its clients do.
	exportPatience = 30 * time.Second
	firstDelay     = 50 * time.Millisecond
	maxDelay       = 2 * time.Second

	// progressEvery is how long the export is silent at least between two lines about its progress.
	progressEvery = time.Second

	// maxPageBytes bounds a response: a page has about 1 MiB of events, which JSON may write six times as large.
	maxPageBytes = 64 << 20
)

// filter is the request of /v1/list without its cursor.
type filter struct {
	Tenant       string               `json:"tenant"`
	From         *time.Time           `json:"from,omitempty"`
	Before       *time.Time           `json:"before,omitempty"`
	Actor        string               `json:"actor,omitempty"`
	Sender       string               `json:"sender,omitempty"`
	Conversation *shared.Conversation `json:"conversation,omitempty"`
	Rule         string               `json:"rule,omitempty"`
	JobID        string               `json:"job_id,omitempty"`
	Steps        string               `json:"steps,omitempty"`
}

// exporter writes the recalls that match a filter as JSON lines.
type exporter struct {
	filter   filter
	client   *http.Client
	progress io.Writer
	resume   func() string // how to go on; nil before it began

	after   string // the cursor behind what was written
	recalls int    // written
	told    time.Time
}

// export is the command "export".
func export(args []string, stdout, stderr io.Writer) int {
	e := &exporter{progress: stderr}
	flags := flag.NewFlagSet("recall-sidecar export", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("config", "sidecar.hcl", "path of the configuration, whose first unix socket is asked")
	socket := flags.String("socket", "", "path of the unix socket of the sidecar, instead of --config")
	output := flags.String("output", "", "file to write; if the export is cut short, the same command continues it "+
		"(default: stdout)")
	flags.StringVar(&e.after, "after", "", "cursor to continue after, as the progress shows it; not with --output")
	flags.StringVar(&e.filter.Tenant, "tenant", "", "tenant of the recalls (required)")
	flags.Func("from", "only recalls at this time or later: RFC 3339, or a date in UTC", timeFlag(&e.filter.From))
	flags.Func("before", "only recalls before this time", timeFlag(&e.filter.Before))
	flags.StringVar(&e.filter.Actor, "actor", "", "only recalls by this user")
	flags.StringVar(&e.filter.Sender, "sender", "", "only recalls of messages of this user")
	flags.Func("conversation", "only recalls in this conversation: type/id, as in group/g1", func(s string) error {
		kind, id, ok := strings.Cut(s, "/")
		if !ok {
			return errors.New("want type/id, as in group/g1")
		}
		e.filter.Conversation = &shared.Conversation{Type: shared.ConversationType(kind), ID: id}
		return nil
	})
	flags.StringVar(&e.filter.Rule, "rule", "", "only recalls that this rule permitted")
	flags.StringVar(&e.filter.JobID, "job", "", "only recalls of this job")
	flags.StringVar(&e.filter.Steps, "steps", "", "only recalls with steps that are open, or failed")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, exportUsage)
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return exitGood
	case err != nil:
	case flags.NArg() > 0:
		err = fmt.Errorf("there is no argument %q", flags.Arg(0))
	case e.filter.Tenant == "":
		err = errors.New("--tenant is missing")
	case *output != "" && e.after != "":
		err = errors.New("--after does not go with --output, which knows where it was cut short")
	}
	if err != nil {
		fmt.Fprintf(stderr, "recall-sidecar export: %v\nrecall-sidecar export -h shows the usage\n", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := e.run(ctx, *file, *socket, *output, stdout); err != nil {
		fmt.Fprintf(stderr, "recall-sidecar export: %v\n", err)
		if e.resume != nil && e.after != "" && !errors.Is(err, errReset) {
			fmt.Fprintln(stderr, e.resume())
		}
		return exitBad
	}
	fmt.Fprintf(stderr, "exported %d recalls\n", e.recalls)
	return exitGood
}

// errReset says that the cursor of an export is of no use any more.
var errReset = errors.New("the index was restored or replaced, and the cursor is of the one before")

const exportUsage = `usage: recall-sidecar export --tenant T [--output recalls.jsonl] [filter]

export writes the recalls of a tenant, newest first: one JSON object a line, as events are in /v1/list. It asks a
sidecar that runs, which serves others meanwhile. Every recall that was committed before the export began is written
once. It writes whole lines, also when SIGINT or SIGTERM ends it. With --output, the same command continues an export
that was cut short, also by SIGKILL: FILE.resume says where, until it is complete. Without it, --after does.

`

func timeFlag(into **time.Time) func(string) error {
	return func(s string) error {
		for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
			if t, err := time.Parse(layout, s); err == nil {
				*into = &t
				return nil
			}
		}
		return errors.New("want a time like 2026-11-01T12:00:00Z, or a date like 2026-11-01")
	}
}

func (e *exporter) run(ctx context.Context, file, socket, output string, stdout io.Writer) error {
	if socket == "" {
		var err error
		if socket, err = firstSocket(file); err != nil {
			return err
		}
	}
	e.client = &http.Client{Timeout: api.Timeout + 5*time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, config.Unix, socket)
		},
	}}
	defer e.client.CloseIdleConnections()
	e.told = time.Now()
	if output != "" {
		return e.toFile(ctx, output)
	}
	e.resume = func() string { return "continue with --after " + e.after }
	err := e.pages(ctx, func(lines []byte, _ bool) error {
		_, err := stdout.Write(lines)
		return err
	})
	if errors.Is(err, errReset) {
		err = fmt.Errorf("%w; export from the start, without --after", err)
	}
	return err
}

func firstSocket(file string) (string, error) {
	f, found := config.Load(file)
	if f == nil {
		return "", fmt.Errorf("the configuration has errors\n%s", found)
	}
	for _, l := range f.Listeners {
		if l.Network == config.Unix {
			return l.Path, nil
		}
	}
	return "", fmt.Errorf("%s has no unix socket to ask; add a block listen \"unix\"", file)
}

// pages calls write with the lines of each page, and with whether there are more.
func (e *exporter) pages(ctx context.Context, write func(lines []byte, more bool) error) error {
	for {
		page, err := e.page(ctx)
		if err != nil {
			return err
		}
		var lines bytes.Buffer
		for _, event := range page.Events {
			if err := json.Compact(&lines, event); err != nil {
				return fmt.Errorf("read the answer of the sidecar: %w", err)
			}
			lines.WriteByte('\n')
		}
		after, recalls := e.after, e.recalls
		e.after, e.recalls = page.Next, e.recalls+len(page.Events)
		if err := write(lines.Bytes(), page.More); err != nil {
			e.after, e.recalls = after, recalls
			return fmt.Errorf("write the recalls: %w", err)
		}
		if !page.More {
			return nil
		}
		if time.Since(e.told) >= progressEvery {
			fmt.Fprintf(e.progress, "exported %d recalls so far, up to %s\n", e.recalls, e.after)
			e.told = time.Now()
		}
		if err := ctx.Err(); err != nil {
			return errors.New("interrupted")
		}
	}
}

// page is a response of /v1/list.
type page struct {
	Events []json.RawMessage `json:"events"`
	Next   string            `json:"next"`
	More   bool              `json:"more"`
	Reset  bool              `json:"reset"`
}

// page asks for the next page, again while the sidecar does not answer.
func (e *exporter) page(ctx context.Context) (p page, err error) {
	body, err := json.Marshal(struct {
		filter
		After string `json:"after,omitempty"`
	}{e.filter, e.after})
	if err != nil {
		return p, err
	}
	delay, end := firstDelay, time.Now().Add(exportPatience)
	for {
		text, temporary, err := e.post(ctx, body)
		switch {
		case err == nil:
			if err := json.Unmarshal(text, &p); err != nil {
				return p, fmt.Errorf("read the answer of the sidecar: %w", err)
			}
			if p.Reset {
				return p, errReset
			}
			return p, nil
		case ctx.Err() != nil:
			return p, errors.New("interrupted")
		case !temporary || time.Now().Add(delay).After(end):
			return p, err
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
		}
		delay = min(2*delay, maxDelay)
	}
}

// post asks once. temporary says that the same request may succeed later.
func (e *exporter) post(ctx context.Context, body []byte) (text []byte, temporary bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/v1/list", bytes.NewReader(body))
	if err != nil {
		return nil, false, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := e.client.Do(req)
	if err != nil {
		return nil, true, err
	}
	defer res.Body.Close()
	text, err = io.ReadAll(io.LimitReader(res.Body, maxPageBytes))
	if err != nil || res.StatusCode == http.StatusOK {
		return text, true, err
	}
	var p problem.Problem
	if json.Unmarshal(text, &p) != nil || p.Detail == "" {
		p.Detail = res.Status
	}
	for _, v := range p.Errors {
		p.Detail += fmt.Sprintf("; %s: %s", v.Field, v.Detail)
	}
	s := res.StatusCode
	return nil, s >= 500 && s != http.StatusNotImplemented || s == http.StatusRequestTimeout ||
		s == http.StatusTooManyRequests, errors.New(p.Detail)
}
